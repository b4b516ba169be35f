"""Models of timm: what its registry or a folder says of them, and how their images are prepared."""
