"""Models that users write themselves, behind the `python:` protocol."""
