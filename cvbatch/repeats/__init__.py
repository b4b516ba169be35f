"""Detections of one thing that stays in one place over many images of a fixed camera."""
