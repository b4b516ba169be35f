"""A run whose models change: only what is new is computed."""
