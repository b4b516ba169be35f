"""Tar and zip archives: listed once, read by span, never extracted."""
