"""Models: which exist, where their weights are, and running them."""
