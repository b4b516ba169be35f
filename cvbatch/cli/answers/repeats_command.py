"""`cvbatch repeats`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cvbatch.cli.answers.common import add_answer_arguments, add_to_argument, print_answer, shorten_uri
from cvbatch.cli.arguments import Subparsers, add_command_parser, parse_count, parse_positive
from cvbatch.cli.common import output_from_options

if TYPE_CHECKING:
    from cvbatch.repeats.repeats import RepeatsAnswer


def add_command(subparsers: Subparsers) -> None:
    """Add `repeats`."""
    parser = add_command_parser(
        subparsers,
        "repeats",
        "find boxes that are at the same place in many images of a folder",
        "Find boxes of one class that are at the same place in many images of a folder: what a fixed camera takes for "
        "an animal again and again. The boxes are written as a Parquet file, with a picture of the places beside it.",
    )
    parser.set_defaults(command=repeats_command)
    add_answer_arguments(parser)
    parser.add_argument(
        "--iou",
        type=float,
        default=0.85,
        metavar="SHARE",
        help="smallest intersection over union of boxes at one place (default: 0.85)",
    )
    parser.add_argument(
        "--images", type=parse_positive, default=15, metavar="N", help="smallest number of images (default: 15)"
    )
    parser.add_argument(
        "--max-area",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="boxes with a larger share of the image do not take part (default: 0.2)",
    )
    places = parser.add_mutually_exclusive_group()
    places.add_argument(
        "--levels",
        type=parse_count,
        default=0,
        metavar="N",
        help="folders above that of the image that belong to one camera (default: 0)",
    )
    places.add_argument("--by", metavar="COLUMN", help="column that says which images belong together, not the folder")
    parser.add_argument("--no-sheet", action="store_true", help="make no picture")
    add_to_argument(parser, "repeats")


def repeats_command(options: argparse.Namespace) -> int:
    """`cvbatch repeats`."""
    from cvbatch.repeats.repeats import find_repeats

    answer = find_repeats(
        output_from_options(options),
        overlap=options.iou,
        images=options.images,
        max_area=options.max_area,
        levels=options.levels,
        by=options.by,
        model=options.model,
        where=options.where,
        classes=options.classes,
        min_score=options.min_score,
        to=options.to,
        sheet=not options.no_sheet,
    )
    return print_answer(options, answer.to_json(), lambda: _render(answer, options.output))


def _render(answer: RepeatsAnswer, title: str) -> Any:
    from rich.console import Group

    from cvbatch.results.console import facts_table, plain_table

    rows = [("images", f"{answer.images:,} in {answer.folders:,} folders")]
    rows += [("without", f"{count:,}: {reason}") for reason, count in answer.excluded.items()]
    rows += [
        ("boxes", f"{answer.boxes:,}"),
        ("places", f"{answer.places:,}, with {answer.suspects:,} boxes"),
        ("written to", answer.path),
    ]
    if answer.sheet is not None:
        rows.append(("look at", answer.sheet))
    if not answer.largest_places:
        return facts_table(rows, title=title)
    places = plain_table(
        ("place", "images"),
        ("label", "folder"),
        [
            (str(place["place"]), f"{place['images']:,}", place["label"], shorten_uri(place["folder"]))
            for place in answer.largest_places
        ],
        "\nplaces with the most images",
    )
    return Group(facts_table(rows, title=title), places)
