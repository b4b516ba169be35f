"""Decode image files to oriented RGB pixels, and preprocess them."""
