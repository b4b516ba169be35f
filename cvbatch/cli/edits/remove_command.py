"""`cvbatch remove`."""

from __future__ import annotations

import argparse

from cvbatch.cli.arguments import Subparsers, add_command_parser
from cvbatch.cli.edits.common import add_edit_arguments, run_edit
from cvbatch.edits.lowest_scores import RECALL_SCORE


def add_command(subparsers: Subparsers) -> None:
    """Add `remove`."""
    parser = add_command_parser(
        subparsers,
        "remove",
        "fill objects of some classes with what surrounds them",
        "Fill objects with what surrounds them, by the inpainting of OpenCV, in a copy of each image. It continues "
        "colours and invents nothing: good for small things on plain ground. The same command resumes.",
    )
    parser.set_defaults(command=remove_command)
    add_edit_arguments(parser, min_score=RECALL_SCORE, needs_classes=True)
    parser.add_argument(
        "--grow",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of an object's width and height that is removed around it (default: 0.1)",
    )
    parser.add_argument("--keep-metadata", action="store_true", help="keep Exif and XMP, with the place of a photo")


def remove_command(options: argparse.Namespace) -> int:
    """`cvbatch remove`."""
    from cvbatch.edits.functions import remove_objects

    return run_edit(
        options,
        remove_objects,
        grow=options.grow,
        use_masks=not options.boxes,
        keep_metadata=options.keep_metadata,
    )
