"""Commands that edit the images of a run; each module adds one command to the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cvbatch.cli.arguments import Subparsers
from cvbatch.cli.edits import crops_command, cutout_command, redact_command, remove_command

EDIT_COMMANDS: Final[tuple[Callable[[Subparsers], None], ...]] = (
    redact_command.add_command,
    crops_command.add_command,
    cutout_command.add_command,
    remove_command.add_command,
)
"""In the order of the help: each adds one command."""
