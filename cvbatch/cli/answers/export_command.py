"""`cvbatch export`: predictions in the formats of other tools."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cvbatch.cli.answers.common import add_answer_arguments, print_answer
from cvbatch.cli.arguments import Subparsers, add_command_parser, parse_positive
from cvbatch.cli.common import output_from_options

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from cvbatch.export.exporting import ExportReport


def add_command(subparsers: Subparsers) -> None:
    """Add `cvbatch export`."""
    parser = add_command_parser(
        subparsers,
        "export",
        "write predictions in the format of another tool",
        "Write the predictions of a run in the format of another tool. Failed images are left out and counted; images "
        "without anything found stay in. --format help lists the formats.",
    )
    parser.set_defaults(command=export_command)
    add_answer_arguments(parser)
    parser.add_argument("--format", required=True, metavar="NAME", help="such as coco; 'help' lists all")
    parser.add_argument("--to", metavar="PATH", help="new file or folder; may be in a bucket")
    parser.add_argument("--masks", choices=("rle", "polygons", "none"), help="how to write masks; none: boxes only")
    parser.add_argument(
        "--images-per-file", type=parse_positive, metavar="N", help="most images in one file of a format with several"
    )
    parser.add_argument(
        "--image-prefix", metavar="TEXT", help="goes in front of the name of each image, such as a web address"
    )
    parser.add_argument(
        "--images",
        choices=("paths", "bytes", "copy", "symlink", "hardlink"),
        help="how images get into the export, by the format",
    )
    parser.add_argument(
        "--without-repeats", metavar="FILE", help="leave out the boxes in this answer of 'cvbatch repeats'"
    )
    parser.add_argument("--rows", choices=("images", "elements"), help="what a row of a table stands for")


def export_command(options: argparse.Namespace) -> int:
    """Run `cvbatch export`; returns exit code 0."""
    if options.format == "help":
        return _print_formats(options)
    from cvbatch.errors import UsageError
    from cvbatch.export.base import FormatOptions
    from cvbatch.export.exporting import export_predictions
    from cvbatch.storage.location import Location
    from cvbatch.storage.options import StorageOptions

    if options.to is None:
        raise UsageError(f"--to: expected where to write, such as --to labels.{options.format}")
    report = export_predictions(
        output_from_options(options),
        options.format,
        Location.from_uri(options.to, StorageOptions.parse_assignments(options.storage)),
        model=options.model,
        where=options.where,
        classes=options.classes,
        min_score=options.min_score,
        without_repeats=options.without_repeats
        and Location.from_uri(options.without_repeats, StorageOptions.parse_assignments(options.storage)),
        options=FormatOptions(
            masks=options.masks,
            images_per_file=options.images_per_file,
            image_prefix=options.image_prefix,
            images=options.images,
            rows=options.rows,
        ),
    )
    return print_answer(options, report.to_json(), lambda: _render_report(report))


def _render_report(report: ExportReport) -> Text:
    from rich.text import Text

    model = f" of {report.model}" if report.model else ""
    counts = {
        "images": report.images,
        f"labels{model}": report.elements,
        "labels left out as repeats": report.repeats,
        **{name.replace("_", " "): getattr(report, name) for name in ("failed", "removed", "not_labelled")},
        **report.notes,
    }
    shown = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count or name == "images")
    return Text(f"{report.path}: {shown}")


def _print_formats(options: argparse.Namespace) -> int:
    from cvbatch.export.base import EXPORTERS

    formats = {
        name: {
            "description": row.description,
            "tasks": [task.name for task in row.tasks],
            "writes": "folder" if row.is_folder else "file",
            "extra": row.extra,
            "options": sorted(row.options),
        }
        for name, row in EXPORTERS.items()
    }
    return print_answer(options, formats, _format_table)


def _format_table() -> Table:
    from rich.table import Table

    from cvbatch.export.base import EXPORTERS

    table = Table("format", "what", "from", "writes", "needs", box=None)
    for name, row in EXPORTERS.items():
        tasks = ", ".join(task.name for task in row.tasks) or "all columns"
        table.add_row(name, row.description, tasks, "folder" if row.is_folder else "file", row.extra or "")
    return table
