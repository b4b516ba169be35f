"""Arguments and printing that commands about answers share."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cvbatch.cli.arguments import JSON_HELP, add_output_argument, parse_amount
from cvbatch.cli.common import print_json


def add_answer_arguments(parser: argparse.ArgumentParser, *, scores: bool = True) -> None:
    """Add the output and what all commands about answers take.

    Args:
        parser: Parser of the command.
        scores: Whether the command can leave out labels by class and score.
    """
    add_output_argument(parser)
    parser.add_argument("--model", metavar="ALIAS", help="column prefix of the model; needed if several could be meant")
    parser.add_argument(
        "--where",
        metavar="CONDITION",
        help="only images for which this holds, as in SQL: \"status = 'ok' AND width > 999\"",
    )
    if scores:
        parser.add_argument(
            "--classes", type=split_names, metavar="NAMES", help="only these classes, separated by commas"
        )
        parser.add_argument(
            "--min-score", type=parse_amount, metavar="SCORE", help="only labels with at least this score"
        )
    parser.add_argument("--json", action="store_true", help=JSON_HELP)


def split_names(text: str) -> list[str]:
    """Names separated by commas; two commas stand for a comma in a name."""
    return [name.strip().replace("\0", ",") for name in text.replace(",,", "\0").split(",") if name.strip()]


def print_answer(options: argparse.Namespace, answer: Mapping[str, Any], render: Callable[[], Any]) -> int:
    """Print an answer as JSON or as a table; returns exit code 0.

    Args:
        options: Options of the command.
        answer: Plain data.
        render: Makes what rich prints; called only for people.
    """
    if options.json:
        return print_json(answer)
    from rich.console import Console
    from rich.text import Text

    shown = render()
    console = Console(markup=False, emoji=False)  # names are shown as they are, also `[b].jpg` and `:dog:`
    console.print(shown, soft_wrap=isinstance(shown, Text))  # paths in a text are for copying
    return 0


def shorten_uri(uri: str) -> str:
    """The end of a URI that tells an image apart for a person: its folder and its name."""
    parts = uri.rsplit("/", 2)
    return f"…/{parts[1]}/{parts[2]}" if len(parts) == 3 and parts[0] else uri


def add_to_argument(parser: argparse.ArgumentParser, question: str) -> None:
    """Add `--to`, the place of the answer."""
    parser.add_argument(
        "--to",
        metavar="PATH",
        help=f"where the answer is written (default: OUTPUT-{question}.parquet, beside the output)",
    )


@contextlib.contextmanager
def show_progress(options: argparse.Namespace, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error while a person waits; yields what receives the steps that are done, and all steps.

    Args:
        options: Options of the command.
        what: What is done, such as `comparing images`.
    """
    if options.json or not sys.stderr.isatty():
        yield lambda done, steps: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, steps: progress.update(task, completed=done, total=steps)
