"""`cvbatch import`: corrected labels back as truth."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cvbatch.cli.answers.common import print_answer
from cvbatch.cli.arguments import JSON_HELP, Subparsers, add_command_parser, add_storage_argument

if TYPE_CHECKING:
    from rich.text import Text

    from cvbatch.export.importing import ImportReport


def add_command(subparsers: Subparsers) -> None:
    """Add `cvbatch import`."""
    parser = add_command_parser(
        subparsers,
        "import",
        "read corrected labels of a labelling tool as truth",
        "Read labels that people made or corrected, and store them as a Parquet file for cvbatch evaluate --truth.",
    )
    parser.set_defaults(command=import_command)
    parser.add_argument("path", metavar="PATH", help="file or folder of the labelling tool")
    parser.add_argument("--format", required=True, metavar="NAME", help="coco, label-studio, cvat, yolo or voc")
    parser.add_argument("--to", required=True, metavar="PATH", help="new file, such as truth.parquet")
    add_storage_argument(parser, "how to access paths in a bucket")
    parser.add_argument("--json", action="store_true", help=JSON_HELP)


def import_command(options: argparse.Namespace) -> int:
    """Run `cvbatch import`; returns exit code 0."""
    from cvbatch.export.importing import import_labels
    from cvbatch.storage.location import Location
    from cvbatch.storage.options import StorageOptions

    storage = StorageOptions.parse_assignments(options.storage)
    path, target = (Location.from_uri(given, storage) for given in (options.path, options.to))
    report = import_labels(path, options.format, target)
    return print_answer(options, report.to_json(), lambda: _render_report(report))


def _render_report(report: ImportReport) -> Text:
    from rich.text import Text

    most = sorted(report.categories.items(), key=lambda pair: -pair[1])[:5]
    names = ", ".join(f"{name} {count:,}" for name, count in most)
    lines = [f"{report.path}: {report.images:,} images, {report.objects:,} labels ({names})", *report.notes]
    return Text("\n".join(lines))
