"""`cvbatch evaluate`: predictions against truth."""

from __future__ import annotations

import argparse

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
    )
    return print_answer(options, report.to_json(), lambda: render_report(report))
