"""`cvbatch cutout`."""

from __future__ import annotations

import argparse

from cvbatch.cli.arguments import Subparsers, add_command_parser
from cvbatch.cli.edits.common import add_edit_arguments, run_edit
from cvbatch.edits.lowest_scores import SURE_SCORE


def add_command(subparsers: Subparsers) -> None:
    """Add `cutout`."""
    parser = add_command_parser(
        subparsers,
        "cutout",
        "write each object that a run has found on transparent ground",
        "Write one file for each object, in a folder of its class, transparent where its mask ends. No model runs "
        "again. The same command resumes.",
    )
    parser.set_defaults(command=cutout_command)
    add_edit_arguments(parser, min_score=SURE_SCORE, needs_classes=False)
    parser.add_argument(
        "--grow",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of an object's width and height by which its mask is widened (default: 0)",
    )
    parser.add_argument("--format", choices=("png", "webp"), default="png", help="format of the files (default: png)")


def cutout_command(options: argparse.Namespace) -> int:
    """`cvbatch cutout`."""
    from cvbatch.edits.functions import cut_out_objects

    return run_edit(
        options,
        cut_out_objects,
        grow=options.grow,
        extension=options.format,
    )
