"""Tasks: what is taken from a network's output, and how it becomes columns."""
