"""One attempt at a run, from its lease to its last commit."""
