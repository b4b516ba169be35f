"""Edits of images by predictions: redact, crop, cut out, remove."""
