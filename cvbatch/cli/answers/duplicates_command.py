"""`cvbatch duplicates`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cvbatch.cli.answers.common import add_answer_arguments, add_to_argument, print_answer, show_progress
from cvbatch.cli.arguments import Subparsers, add_command_parser
from cvbatch.cli.common import output_from_options
from cvbatch.schema import IMAGE_URI, ROW_ID

if TYPE_CHECKING:
    from cvbatch.similarity.duplicates import DuplicatesAnswer


def add_command(subparsers: Subparsers) -> None:
    """Add `duplicates`."""
    parser = add_command_parser(
        subparsers,
        "duplicates",
        "find images that are there more than once",
        "Find images with the same bytes, and images whose embeddings are alike. The groups are written as a Parquet "
        "file with a row for each of their images; after a run with --update only new images are compared.",
    )
    parser.set_defaults(command=duplicates_command)
    add_answer_arguments(parser, scores=False)
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.97,
        metavar="COSINE",
        help="smallest cosine of alike images (default: 0.97)",
    )
    parser.add_argument("--exact", action="store_true", help="only images with the same bytes; needs no embedding")
    parser.add_argument(
        "--prefer", metavar="COLUMN", help="column of numbers: of alike images the largest is kept (default: pixels)"
    )
    parser.add_argument("--restart", action="store_true", help="compare all images again, not only new ones")
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="compare on the Ray cluster of RAY_ADDRESS; for more than a million images",
    )
    add_to_argument(parser, "duplicates")


def duplicates_command(options: argparse.Namespace) -> int:
    """`cvbatch duplicates`."""
    from cvbatch.similarity.duplicates import find_duplicates

    with show_progress(options, "comparing images") as report:
        answer = find_duplicates(
            output_from_options(options),
            threshold=options.threshold,
            model=options.model,
            exact=options.exact,
            where=options.where,
            prefer=options.prefer,
            to=options.to,
            restart=options.restart,
            cluster=options.cluster,
            report=report,
        )
    return print_answer(options, answer.to_json(), lambda: _render(answer, options.output))


def _render(answer: DuplicatesAnswer, title: str) -> Any:
    from rich.console import Group

    from cvbatch.results.console import facts_table, plain_table

    rows = [("images", f"{answer.images:,}, {answer.new_images:,} of them compared now")]
    rows += [
        ("" if number else "not compared", f"{count:,}: {why}")
        for number, (why, count) in enumerate(answer.excluded.items())
    ]
    exact = "" if answer.model is None else f", {answer.exact_duplicates:,} of them with the same bytes"
    rows += [
        ("groups", f"{answer.groups:,}"),
        ("duplicates", f"{answer.duplicates:,}{exact}"),
        ("their files", f"{answer.duplicate_bytes / 1e6:,.1f} MB"),
        ("written to", answer.path),
    ]
    if not answer.largest_groups:
        return facts_table(rows, title=title)
    groups = plain_table(
        ("images", ROW_ID),
        ("representative",),
        [(f"{group['images']:,}", str(group[ROW_ID]), group[IMAGE_URI]) for group in answer.largest_groups],
        "\nlargest groups",
    )
    return Group(facts_table(rows, title=title), groups)
