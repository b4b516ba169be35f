"""Object stores: where things are, how to get at them, and what can go wrong."""
