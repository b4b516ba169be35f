"""Tests of `cvbatch.edits`."""
