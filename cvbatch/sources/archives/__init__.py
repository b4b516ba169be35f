"""Tar and zip shards: indexed once, read by span, never extracted."""
