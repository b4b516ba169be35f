"""`cvbatch drift`: whether a model is at home with the images of a run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from cvbatch.cli.answers.common import add_answer_arguments, print_answer, shorten_uri
from cvbatch.cli.arguments import Subparsers, add_command_parser, parse_count, parse_positive
from cvbatch.cli.common import output_from_options
from cvbatch.schema import IMAGE_URI, ROW_ID

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from cvbatch.drift.report import DriftReport

_SHOWN: Final = 10


def add_command(subparsers: Subparsers) -> None:
    """Add `cvbatch drift`."""
    parser = add_command_parser(
        subparsers,
        "drift",
        "compare images and answers with those of a reference",
        "Compare the images and answers of a run with those of a reference run of the same models: how large each "
        "difference is, and whether it is more than chance.",
    )
    parser.set_defaults(command=drift_command)
    add_answer_arguments(parser, scores=False)
    parser.add_argument(
        "--reference", metavar="OUTPUT", help="run of the same models on images with which they are at home"
    )
    parser.add_argument(
        "--reference-where", metavar="CONDITION", help="only images of the reference for which this holds"
    )
    parser.add_argument(
        "--by", metavar="COLUMN", help="also compare each value of this column with the reference, or each 'folder'"
    )
    parser.add_argument(
        "--pixels",
        type=parse_count,
        default=1000,
        metavar="N",
        help="images of each run to read again for brightness and sharpness (default: %(default)s)",
    )
    parser.add_argument(
        "--max-rows",
        type=parse_positive,
        default=100_000,
        metavar="N",
        help="most images of both runs to compare (default: %(default)s)",
    )
    parser.add_argument("--seed", type=parse_count, default=0, help="decides which images are compared (default: 0)")


def drift_command(options: argparse.Namespace) -> int:
    """Run `cvbatch drift`; returns exit code 0."""
    from cvbatch.drift.measure import measure_drift
    from cvbatch.storage.location import Location
    from cvbatch.storage.options import StorageOptions

    reference = options.reference
    if reference is not None:
        reference = Location.from_uri(reference, StorageOptions.parse_assignments(options.storage))
    report = measure_drift(
        output_from_options(options),
        reference,
        by=options.by,
        model=options.model,
        pixels=options.pixels,
        max_rows=options.max_rows,
        seed=options.seed,
        where=options.where,
        reference_where=options.reference_where,
    )
    return print_answer(options, report.to_json(), lambda: _render_report(report))


def _render_report(report: DriftReport) -> Group:
    from rich.console import Group
    from rich.text import Text

    parts: list[str | Table] = [report.sentence, _shift_table(report)]
    if any(shift.value != shift.reference for shift in report.classes):
        parts.append(_class_table(report))
    if report.groups:
        flagged, farthest = sum(group.is_flagged for group in report.groups), report.groups[0]
        name = f"{shorten_uri(farthest.group)} by its {farthest.signal}"
        parts += [
            f"\n{flagged:,} of {len(report.groups):,} groups differ; the farthest is {name}.",
            _group_table(report),
        ]
    if report.examples:
        parts.append("examples")
        for example in report.examples:
            uri = shorten_uri(example[IMAGE_URI])
            parts.append(f"  row {example[ROW_ID]}  {uri}  {example['reason']}")
    return Group(*parts, *(Text(note, "dim") for note in report.notes))


def _shift_table(report: DriftReport) -> Table:
    table = _table("signal", "effect", "p", "here", "reference", "")
    for shift in report.shifts:
        medians = ["" if value is None else f"{value:.3g}" for value in (shift.value, shift.reference)]
        table.add_row(shift.signal, f"{shift.effect:.2f}", f"{shift.p:.2g}", *medians, _mark(shift.is_flagged))
    return table


def _class_table(report: DriftReport) -> Table:
    table = _table("class", "here", "reference", "of")
    moved = [shift for shift in report.classes if shift.value != shift.reference]
    for shift in moved[:_SHOWN]:
        table.add_row(shift.label, f"{shift.value:.1%}", f"{shift.reference:.1%}", shift.model)
    return table


def _group_table(report: DriftReport) -> Table:
    table = _table("group", "images", "effect", "signal", "here", "reference", "")
    for group in report.groups[:_SHOWN]:
        numbers = f"{group.images:,}", f"{group.effect:.2f}"
        medians = f"{group.value:.3g}", f"{group.reference:.3g}"
        name = shorten_uri(group.group)
        table.add_row(name, *numbers, group.signal, *medians, _mark(group.is_flagged))
    return table


def _table(*names: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), title=" ")
    for name in names:
        is_text = name in ("", "signal", "class", "group", "of")
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    return table


def _mark(is_flagged: bool) -> Text:
    from rich.text import Text

    return Text("differs" if is_flagged else "", "bold")
