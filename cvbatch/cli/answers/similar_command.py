"""`cvbatch similar`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cvbatch.cli.answers.common import add_answer_arguments, print_answer
from cvbatch.cli.arguments import Subparsers, add_command_parser, parse_positive
from cvbatch.cli.common import output_from_options
from cvbatch.schema import ROW_ID

if TYPE_CHECKING:
    from cvbatch.similarity.neighbours import SimilarAnswer


def add_command(subparsers: Subparsers) -> None:
    """Add `similar`."""
    parser = add_command_parser(subparsers, "similar", "find the images that look most alike a given one")
    parser.set_defaults(command=similar_command)
    add_answer_arguments(parser, scores=False)
    parser.add_argument(
        "--image",
        action="append",
        required=True,
        metavar="URI",
        help="image of the run: its image_uri or the end of it, or its row_id; can be repeated",
    )
    parser.add_argument("-k", type=parse_positive, default=20, metavar="N", help="how many images (default: 20)")


def similar_command(options: argparse.Namespace) -> int:
    """`cvbatch similar`."""
    from cvbatch.similarity.neighbours import find_similar

    answer = find_similar(
        output_from_options(options), options.image, k=options.k, model=options.model, where=options.where
    )
    return print_answer(options, answer.to_json(), lambda: _render(answer))


def _render(answer: SimilarAnswer) -> Any:
    from rich.console import Group

    from cvbatch.results.console import plain_table

    tables = []
    for query in answer.queries:
        rows = [(f"{item.cosine:.3f}", str(item.row_id), item.image_uri) for item in query.neighbours]
        tables.append(plain_table(("cosine", ROW_ID), ("image",), rows, query.image_uri))
    return Group(*tables)
