"""Commands that answer questions about a run; each module adds one command to the command line.

The modules import what they need when their command runs, so that the command line starts fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cvbatch.cli.answers import (
    cluster_command,
    compare_command,
    drift_command,
    duplicates_command,
    evaluate_command,
    export_command,
    import_command,
    repeats_command,
    report_command,
    sample_command,
    similar_command,
    sql_command,
)
from cvbatch.cli.arguments import Subparsers

ANSWER_COMMANDS: Final[tuple[Callable[[Subparsers], None], ...]] = (
    sql_command.add_command,
    evaluate_command.add_command,
    compare_command.add_command,
    duplicates_command.add_command,
    similar_command.add_command,
    cluster_command.add_command,
    repeats_command.add_command,
    sample_command.add_command,
    drift_command.add_command,
    export_command.add_command,
    import_command.add_command,
    report_command.add_command,
)
"""In the order of the help: each adds one command."""
