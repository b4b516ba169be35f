"""`cvbatch evaluate`: predictions against truth."""

from __future__ import annotations

import argparse
from typing import Any

from cvbatch.cli.answers.common import add_answer_arguments, print_answer
from cvbatch.cli.arguments import Subparsers, add_command_parser
from cvbatch.cli.common import output_from_options


def add_command(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command_parser(
        subparsers,
        "evaluate",
        "compare predictions with truth",
        "Compare the predictions of a model with truth, by the measures of its task.",
    )
    parser.set_defaults(command=evaluate_command)
    add_answer_arguments(parser)
    parser.add_argument("--truth", required=True, metavar="PATH", help="file or folder with the truth")
    parser.add_argument("--by", metavar="COLUMN", help="also for each value of a column, 'folder' or 'size'")
    add_truth_arguments(parser)


def add_truth_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what some formats of truth leave open."""
    parser.add_argument("--image-column", metavar="NAME", help="column of a table that names the images")
    parser.add_argument("--label-column", metavar="NAME", help="column of a table with the classes")
    parser.add_argument(
        "--ignored-value",
        type=int,
        default=255,
        metavar="N",
        help="value of mask pixels that do not count; -1 if all count (default: 255)",
    )


def truth_options(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_truth_arguments` was told, as arguments of `cvbatch.evaluate`."""
    return {
        "image_column": options.image_column,
        "label_column": options.label_column,
        "ignored_value": options.ignored_value if options.ignored_value >= 0 else None,
    }


def evaluate_command(options: argparse.Namespace) -> int:
    """Evaluate, and print the numbers."""
    from cvbatch.evaluation.evaluate import evaluate
    from cvbatch.evaluation.tables import render_report
    from cvbatch.storage.location import Location

    output = output_from_options(options)
    report = evaluate(
        output,
        Location.from_uri(options.truth, output.options),
        model=options.model,
        by=options.by,
        where=options.where,
        classes=options.classes,
        min_score=options.min_score,
        **truth_options(options),
    )
    return print_answer(options, report.to_json(), lambda: render_report(report))
