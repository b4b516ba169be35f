"""Which models exist, and where their weights are; imports no torch."""
