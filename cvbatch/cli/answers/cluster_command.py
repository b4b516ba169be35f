"""`cvbatch cluster`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cvbatch.cli.answers.common import add_answer_arguments, add_to_argument, print_answer, shorten_uri
from cvbatch.cli.arguments import Subparsers, add_command_parser, parse_count, parse_positive
from cvbatch.cli.common import output_from_options
from cvbatch.schema import ROW_ID

if TYPE_CHECKING:
    from cvbatch.similarity.clusters import ClustersAnswer

_LARGEST_CLUSTERS = 30


def add_command(subparsers: Subparsers) -> None:
    """Add `cluster`."""
    parser = add_command_parser(
        subparsers,
        "cluster",
        "divide the images into clusters that look alike",
        "Divide the images into clusters by k-means on their embeddings. The cluster of each image is written as a "
        "Parquet file.",
    )
    parser.set_defaults(command=cluster_command)
    add_answer_arguments(parser, scores=False)
    parser.add_argument(
        "--clusters",
        type=parse_positive,
        metavar="N",
        help="how many (default: the root of half of the images, up to 256)",
    )
    parser.add_argument("--seed", type=parse_count, default=0, metavar="N", help="of the first centres (default: 0)")
    add_to_argument(parser, "clusters")


def cluster_command(options: argparse.Namespace) -> int:
    """`cvbatch cluster`."""
    from cvbatch.similarity.clusters import find_clusters

    answer = find_clusters(
        output_from_options(options),
        options.clusters,
        model=options.model,
        where=options.where,
        seed=options.seed,
        to=options.to,
    )
    return print_answer(options, answer.to_json(), lambda: _render(answer))


def _render(answer: ClustersAnswer) -> Any:
    from rich.table import Table

    excluded = "".join(f", without {count:,}: {reason}" for reason, count in answer.excluded.items())
    table = Table(
        title=f"{answer.images:,} images in {len(answer.clusters):,} clusters{excluded}",
        caption=f"written to {answer.path}",
        title_justify="left",
        caption_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for name in ("cluster", "images", "cosine"):
        table.add_column(name, justify="right")
    table.add_column("most frequent label")
    table.add_column(ROW_ID, justify="right")
    table.add_column("representative")
    for facts in answer.clusters[:_LARGEST_CLUSTERS]:
        label = "" if facts.label_share is None else f"{facts.label} {facts.label_share:.0%}"
        values = (str(facts.cluster), f"{facts.images:,}", f"{facts.cosine:.2f}", label, str(facts.row_id))
        table.add_row(*values, shorten_uri(facts.image_uri))
    return table
