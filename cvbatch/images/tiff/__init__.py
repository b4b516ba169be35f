"""TIFF files and those that are built like them: which picture, where its parts are, what its numbers mean."""
