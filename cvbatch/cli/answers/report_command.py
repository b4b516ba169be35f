"""`cvbatch report`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cvbatch.cli.answers.common import print_answer, show_progress
from cvbatch.cli.arguments import JSON_HELP, Subparsers, add_command_parser, add_output_argument, parse_positive
from cvbatch.cli.common import is_training, output_from_options
from cvbatch.errors import UsageError
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions

if TYPE_CHECKING:
    from cvbatch.report.write import ReportAnswer


def add_command(subparsers: Subparsers) -> None:
    """Add `report`."""
    parser = add_command_parser(
        subparsers,
        "report",
        "write a page that shows a run or a training",
        "Write one page that shows a run to people who have no Python: labels, errors, chosen images with boxes and "
        "masks, and the answers of other commands. It opens from a disk, a bucket or any web server. A second call "
        "draws only what is new.",
    )
    parser.set_defaults(command=report_command)
    add_output_argument(parser)
    parser.add_argument(
        "--to", metavar="DIR", help="folder of the page, local or in a bucket (default: OUTPUT/_report)"
    )
    parser.add_argument("--truth", metavar="PATH", help="also show how good the answers are, against this truth")
    parser.add_argument(
        "--reference",
        metavar="OUTPUT2",
        help="also compare with this run: image by image if it is over the same images, else whether they are alike",
    )
    parser.add_argument(
        "--images", type=parse_positive, default=240, metavar="N", help="most images on the page (default: 240)"
    )
    parser.add_argument(
        "--cluster",
        action=argparse.BooleanOptionalAction,
        help="draw the small pictures on the Ray cluster of RAY_ADDRESS, or on this machine (default: there, if it can "
        "read the images and there are many)",
    )
    parser.add_argument("--json", action="store_true", help=JSON_HELP)


def report_command(options: argparse.Namespace) -> int:
    """`cvbatch report`."""
    from cvbatch.report.write import write_report

    if is_training(output_from_options(options)):
        return _report_training(options)
    with show_progress(options, "drawing images") as report:
        answer = write_report(
            output_from_options(options),
            to=_place_from_options(options),
            truth=options.truth,
            reference=options.reference,
            images=options.images,
            cluster=options.cluster,
            report=report,
        )
    return print_answer(options, answer.to_json(), lambda: render_answer(answer))


def _report_training(options: argparse.Namespace) -> int:
    from cvbatch.training.page import write_training_report

    for name in ("truth", "reference"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name}: a training is compared with its own truth: leave it out")
    with show_progress(options, "drawing images") as report:
        answer = write_training_report(
            output_from_options(options), to=_place_from_options(options), images=options.images, report=report
        )
    return print_answer(options, answer.to_json(), lambda: render_answer(answer))


def _place_from_options(options: argparse.Namespace) -> Location | None:
    if options.to is None:
        return None
    return Location.from_uri(options.to, StorageOptions.parse_assignments(options.storage))


def render_answer(answer: ReportAnswer) -> Any:
    """The path of a page as a link that a terminal opens, and what is on the page."""
    from rich.style import Style
    from rich.text import Text

    text = Text(f"{answer.images:,} images, {answer.drawn:,} of them drawn now")
    if answer.sections:
        text.append(f"\nanswers on the page: {', '.join(answer.sections)}")
    for note in answer.notes:
        text.append(f"\n{note}")
    text.append("\nreport: ")
    text.append(answer.link or answer.path, Style(link=answer.link) if answer.link else "")
    return text
