"""`cvbatch sample`: which images to label next."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from cvbatch.cli.answers.common import add_answer_arguments, print_answer, shorten_uri
from cvbatch.cli.arguments import Subparsers, add_command_parser, parse_count, parse_positive
from cvbatch.cli.common import output_from_options
from cvbatch.schema import IMAGE_URI, ROW_ID

if TYPE_CHECKING:
    from rich.table import Table

    from cvbatch.sampling.choice import SampleChoice

_STRATEGIES: Final = ("uncertainty", "diversity", "mixed", "disagreement", "random")
_SHOWN: Final = 20
_LEFT_OUT: Final = {
    "error": "that failed",
    "removed": "removed from the source",
    "excluded": "labelled already",
    "nothing_found": "without an answer that passes",
}


def add_command(subparsers: Subparsers) -> None:
    """Add `sample`."""
    parser = add_command_parser(
        subparsers,
        "sample",
        "choose the images to label next",
        "Choose the images to label next: those of which the model is least sure, or that differ most, or both; never "
        "two near duplicates.",
    )
    parser.set_defaults(command=sample_command)
    add_answer_arguments(parser)
    parser.add_argument("-n", "--count", type=parse_positive, default=200, metavar="N", help="images (default: 200)")
    parser.add_argument("--by", choices=_STRATEGIES, default="uncertainty", help="way to choose (default: %(default)s)")
    parser.add_argument("--other-model", metavar="ALIAS", help="model to compare with, for --by disagreement")
    parser.add_argument(
        "--measure",
        metavar="NAME",
        help="how unsure a model is: margin (default) or entropy; for segmentation edges",
    )
    parser.add_argument(
        "--aggregate",
        choices=("sum", "max", "mean"),
        default="sum",
        help="from boxes to their image (default: %(default)s)",
    )
    parser.add_argument("--embedding", metavar="ALIAS", help="embedding that tells near duplicates")
    parser.add_argument(
        "--max-cosine",
        type=float,
        default=0.97,
        metavar="COSINE",
        help="images whose vectors are at least this similar are near duplicates (default: %(default)s)",
    )
    parser.add_argument(
        "--budget",
        type=parse_budget,
        metavar="N",
        help="most images of one class: a number for all classes, or dog=50,cat=20",
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="FILE",
        help="CSV or Parquet file whose row_id are labelled already; can be repeated",
    )
    parser.add_argument(
        "--candidates",
        type=parse_positive,
        metavar="N",
        help="most images in memory to choose from (default: 10 times the images, at least 1,000, or 20,000 if "
        "they are compared with each other)",
    )
    parser.add_argument("--seed", type=parse_count, default=0, help="decides what chance decides (default: 0)")
    parser.add_argument("--to", metavar="FILE", help="write the chosen images to this .csv or .parquet file")
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="write answers on the chosen images to --to as 'cvbatch export' does, such as label-studio or cvat",
    )


def sample_command(options: argparse.Namespace) -> int:
    """`cvbatch sample`."""
    from cvbatch.sampling.choose import choose_samples
    from cvbatch.sampling.files import check_table_path, read_row_ids, write_table_file

    if options.format is not None:
        _check_format(options)
    elif options.to is not None:
        check_table_path(options.to, "--to")
    choice = choose_samples(
        output_from_options(options),
        options.count,
        by=options.by,
        model=options.model,
        other_model=options.other_model,
        measure=options.measure,
        aggregate=options.aggregate,
        embedding=options.embedding,
        max_cosine=options.max_cosine,
        budget=options.budget,
        exclude=read_row_ids(options.exclude).tolist(),
        candidates=options.candidates,
        seed=options.seed,
        where=options.where,
        classes=options.classes,
        min_score=options.min_score,
    )
    if options.format is not None:
        _export_choice(options, choice)
    elif options.to is not None:
        write_table_file(choice.table, options.to)
    return print_answer(options, choice.to_json(), lambda: _choice_table(choice, options.to))


def _check_format(options: argparse.Namespace) -> None:
    from cvbatch.errors import UsageError
    from cvbatch.export.base import find_format

    find_format(options.format)
    if options.to is None:
        raise UsageError(f"--format {options.format}: expected where to write, such as --to next")


def _export_choice(options: argparse.Namespace, choice: SampleChoice) -> None:
    """Write the answers of a model on the chosen images, to be corrected in another tool."""
    from cvbatch.export.exporting import export_predictions
    from cvbatch.storage.location import Location
    from cvbatch.storage.options import StorageOptions

    export_predictions(
        output_from_options(options),
        options.format,
        Location.from_uri(options.to, StorageOptions.parse_assignments(options.storage)),
        model=options.model,
        where=choice.where(),
    )


def parse_budget(text: str) -> int | dict[str, int]:
    """A number, or names with numbers."""
    if text.isdecimal():
        return parse_positive(text)
    pairs = [pair.rpartition("=") for pair in text.split(",")]
    if wrong := [number or name for name, _, number in pairs if not name or not number.isdecimal()]:
        raise argparse.ArgumentTypeError(f"expected a number, or names with numbers as dog=50,cat=20, got {wrong[0]!r}")
    return {name.strip(): int(number) for name, _, number in pairs}


def _choice_table(choice: SampleChoice, path: str | None) -> Table:
    """The best images, and what a person should know."""
    from rich.table import Table

    from cvbatch.sampling.choice import REASON
    from cvbatch.sampling.measures import SCORE

    shown = choice.table.slice(0, _SHOWN)
    chosen = f"{choice.table.num_rows:,} of {choice.counts['usable']:,} images, by {choice.by}"
    left_out = ", ".join(f"{choice.counts[name]:,} {word}" for name, word in _LEFT_OUT.items() if choice.counts[name])
    notes = [*([f"without {left_out}"] if left_out else []), *choice.notes, *([f"written to {path}"] if path else [])]
    if choice.table.num_rows > _SHOWN and path is None:
        notes.append(f"the first {_SHOWN} are shown; --to FILE and --json have all")
    table = Table(title=chosen, title_justify="left", caption="\n".join(notes), caption_justify="left")
    table.add_column(ROW_ID, justify="right")
    table.add_column("image", overflow="fold")
    table.add_column(SCORE, justify="right")
    table.add_column(REASON, overflow="fold")
    for row in shown.to_pylist():
        score = "" if row[SCORE] is None else f"{row[SCORE]:.3f}"
        table.add_row(str(row[ROW_ID]), shorten_uri(row[IMAGE_URI]), score, row[REASON])
    return table
