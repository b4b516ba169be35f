"""The search for the fastest settings that keep the answers."""
