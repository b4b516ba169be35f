"""Bytes of an image file to oriented RGB pixels."""
