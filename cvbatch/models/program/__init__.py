"""Programs of torch.export: what a file says of itself, read without torch and without its pickles."""
