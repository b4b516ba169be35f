"""Two runs against each other: where they agree, what has changed, and which one is better."""
