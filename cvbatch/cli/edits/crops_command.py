"""`cvbatch crops`."""

from __future__ import annotations

import argparse

from cvbatch.cli.arguments import Subparsers, add_command_parser
from cvbatch.cli.edits.common import add_edit_arguments, run_edit
from cvbatch.edits.lowest_scores import SURE_SCORE


def add_command(subparsers: Subparsers) -> None:
    """Add `crops`."""
    parser = add_command_parser(
        subparsers,
        "crops",
        "write one file for each object that a run has found",
        "Write one file for each object, in a folder of its class, as torchvision's ImageFolder and others read it. No "
        "model runs again. The same command resumes.",
    )
    parser.set_defaults(command=crops_command)
    add_edit_arguments(parser, min_score=SURE_SCORE, needs_classes=False)
    parser.add_argument(
        "--margin",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of a box's width and height that is added on each side (default: 0)",
    )
    parser.add_argument("--square", action="store_true", help="squares around the boxes; black where the image ends")
    parser.add_argument(
        "--format", choices=("jpg", "png", "webp"), default="jpg", help="format of the files (default: jpg)"
    )


def crops_command(options: argparse.Namespace) -> int:
    """`cvbatch crops`."""
    from cvbatch.edits.functions import crop_objects

    return run_edit(
        options,
        crop_objects,
        margin=options.margin,
        square=options.square,
        extension=options.format,
    )
