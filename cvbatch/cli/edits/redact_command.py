"""`cvbatch redact`."""

from __future__ import annotations

import argparse

from cvbatch.cli.arguments import Subparsers, add_command_parser
from cvbatch.cli.edits.common import add_edit_arguments, run_edit
from cvbatch.edits.lowest_scores import RECALL_SCORE


def add_command(subparsers: Subparsers) -> None:
    """Add `redact`."""
    parser = add_command_parser(
        subparsers,
        "redact",
        "hide objects of some classes in all images of a run",
        "Hide what a run has found: a copy of each image with its objects blurred, pixelated or filled, and without the"
        " place and the thumbnail in its metadata. No model runs again. The same command resumes.",
    )
    parser.set_defaults(command=redact_command)
    add_edit_arguments(parser, min_score=RECALL_SCORE, needs_classes=True)
    parser.add_argument(
        "--how", choices=("blur", "pixelate", "fill"), default="blur", help="how objects are hidden (default: blur)"
    )
    parser.add_argument(
        "--grow",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of an object's width and height that is hidden around it (default: 0.1)",
    )
    parser.add_argument("--keep-metadata", action="store_true", help="keep Exif and XMP, with the place of a photo")


def redact_command(options: argparse.Namespace) -> int:
    """`cvbatch redact`."""
    from cvbatch.edits.functions import redact_images

    return run_edit(
        options,
        redact_images,
        how=options.how,
        grow=options.grow,
        use_masks=not options.boxes,
        keep_metadata=options.keep_metadata,
    )
