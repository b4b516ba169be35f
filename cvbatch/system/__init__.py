"""The machine that a process runs on, and what its environment says."""
