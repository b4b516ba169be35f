"""Arguments and the end of all commands that edit images."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from cvbatch.cli.answers.common import print_answer, split_names
from cvbatch.cli.arguments import JSON_HELP, add_lease_arguments, add_output_argument, add_strict_argument
from cvbatch.cli.common import describe_same_command, output_from_options, stop_on_signals
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions

if TYPE_CHECKING:
    from cvbatch.edits.answer import EditAnswer
    from cvbatch.edits.editing import Attempt
    from cvbatch.results.error_groups import ErrorKind

_FAILED_EXIT_CODE = 3


def add_edit_arguments(parser: argparse.ArgumentParser, *, min_score: float, needs_classes: bool) -> None:
    """Add what all edits take.

    Args:
        parser: Parser of the command.
        min_score: Default of `--min-score`.
        needs_classes: Whether the user must say which classes are meant.
    """
    add_output_argument(parser)
    parser.add_argument("--to", required=True, metavar="PATH", help="folder or bucket location of the edited images")
    parser.add_argument(
        "--classes",
        type=split_names,
        required=needs_classes,
        metavar="NAMES",
        help="only these classes, separated by commas" + ("; all for every class" if needs_classes else ""),
    )
    parser.add_argument("--model", metavar="ALIAS", help="column prefix of the model; needed if several find objects")
    parser.add_argument(
        "--min-score",
        type=float,
        default=min_score,
        metavar="SCORE",
        help=f"only objects with at least this score (default: {min_score:g})",
    )
    if needs_classes:
        parser.add_argument("--boxes", action="store_true", help="use boxes, also where the model has masks")
    parser.add_argument(
        "--retry",
        choices=("none", "transient", "all"),
        default="none",
        help="edit images in error again: those that another attempt may not have, or all (default: none)",
    )
    add_lease_arguments(parser)
    add_strict_argument(parser)
    parser.add_argument("--shared-filesystem", action="store_true", help="all machines see the same files")
    parser.add_argument("--json", action="store_true", help=JSON_HELP)


def run_edit(options: argparse.Namespace, edit: Callable[..., EditAnswer], **arguments: Any) -> int:
    """Run the function of an edit and print what it has done.

    Args:
        options: Of the command.
        edit: A function of `edits.functions`.
        arguments: What only this edit takes.

    Returns:
        3 with `--strict` if an image failed, else 0.
    """
    with _attempt_from_options(options) as attempt:
        answer = edit(
            output_from_options(options),
            Location.from_uri(options.to, StorageOptions.parse_assignments(options.storage)),
            classes=None if options.classes in (None, ["all"]) else options.classes,
            min_score=options.min_score,
            model=options.model,
            attempt=attempt,
            **arguments,
        )
    print_answer(options, answer.to_json(), lambda: _render(answer))
    return _FAILED_EXIT_CODE if options.strict and answer.errors else 0


@contextlib.contextmanager
def _attempt_from_options(options: argparse.Namespace) -> Iterator[Attempt]:
    """Show the progress of an edit; say how it can be resumed if it is stopped or killed."""
    from cvbatch.config.compute import ComputeConfig
    from cvbatch.edits.editing import Attempt
    from cvbatch.results.progress import TerminalProgress
    from cvbatch.system.standard_streams import quiet_libraries, report_if_killed

    again = f"images that are written are committed. Resume with: {describe_same_command(options)}"
    with (
        report_if_killed(f"the edit was ended from outside; {again}"),
        quiet_libraries(),
        TerminalProgress(quiet=options.json) as terminal,
        stop_on_signals(f"stopped; {again}"),
    ):
        compute = ComputeConfig(shared_filesystem=True) if options.shared_filesystem else None
        yield Attempt(terminal, options.takeover, options.retry, compute, wait=options.wait)


def _render(answer: EditAnswer) -> Any:
    from cvbatch.results.console import facts_table

    rows = [
        ("images", f"{answer.images:,}"),
        ("edited", f"{answer.edited:,}"),
        ("objects", _counts(answer.objects) or "none"),
    ]
    rows += [(name, text) for kind in answer.failed for name, text in _describe_errors(kind)]
    if answer.failed:
        rows.append(("then", "cvbatch retry if the run has them in error, too; and this command with --retry all"))
    if answer.notes:
        rows.append(("note", _counts(answer.notes)))
    if answer.kept_from is not None:
        rows.append(("careful", f"the run has kept boxes from a score of {answer.kept_from:g} only"))
    rows += [("files", f"{answer.files:,} in {answer.to}"), ("audit", answer.audit)]
    if answer.sheet is not None:
        rows.append(("look at", f"{answer.sheet}: {answer.near_misses:,} objects just below the threshold"))
    return facts_table(rows)


def _describe_errors(kind: ErrorKind) -> Iterator[tuple[str, str]]:
    from cvbatch.results.console import relative_to_cwd

    yield kind.error_type, f"{kind.images:,} not edited; what to do: {kind.advice}"
    for example in kind.examples[:1]:
        yield "such as", f"{relative_to_cwd(example.image_uri)}: {example.message}"


def _counts(counts: Any) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
