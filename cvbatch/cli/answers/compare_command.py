"""`cvbatch compare`: two runs over the same images."""

from __future__ import annotations

import argparse

from cvbatch.cli.answers.common import add_answer_arguments, print_answer
from cvbatch.cli.answers.evaluate_command import add_truth_arguments, truth_options
from cvbatch.cli.arguments import Subparsers, add_command_parser, parse_amount
from cvbatch.cli.common import output_from_options


def add_command(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command_parser(
        subparsers,
        "compare",
        "compare two runs over the same images",
        "Compare two runs over the same images, such as those of two models: where they agree, which classes have "
        "changed, which images to look at, and with --truth which run is better.",
    )
    parser.set_defaults(command=compare_command)
    add_answer_arguments(parser)
    parser.add_argument("second", metavar="OUTPUT2", help="output of the second run; it may be the same one")
    parser.add_argument("--second-model", metavar="ALIAS", help="model of the second run, if it is another")
    parser.add_argument("--truth", metavar="PATH", help="file or folder with the truth")
    parser.add_argument(
        "--margin", type=parse_amount, default=0.01, metavar="LOSS", help="loss that does not matter (default: 0.01)"
    )
    parser.add_argument(
        "--review", type=int, default=20, metavar="N", help="images in the list of those to look at (default: 20)"
    )
    add_truth_arguments(parser)


def compare_command(options: argparse.Namespace) -> int:
    """Compare, and print the result."""
    from cvbatch.comparison.compare import compare_runs
    from cvbatch.comparison.tables import render_comparison
    from cvbatch.storage.location import Location

    output = output_from_options(options)
    report = compare_runs(
        output,
        Location.from_uri(options.second, output.options),
        truth=None if options.truth is None else Location.from_uri(options.truth, output.options),
        model=options.model,
        second_model=options.second_model,
        where=options.where,
        classes=options.classes,
        min_score=options.min_score,
        margin=options.margin,
        review=options.review,
        **truth_options(options),
    )
    return print_answer(options, report.to_json(), lambda: render_comparison(report))
