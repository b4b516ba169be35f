"""Models that users write themselves."""
