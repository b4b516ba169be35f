"""The command line."""

from cvbatch.cli.parser import main

__all__ = ["main"]
