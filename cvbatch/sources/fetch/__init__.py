"""How the bytes of an image are fetched."""
