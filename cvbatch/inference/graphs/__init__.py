"""Graphs of other frameworks: what goes in, and what their outputs mean."""
