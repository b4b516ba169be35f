"""Fetching of image bytes."""
