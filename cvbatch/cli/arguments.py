"""Arguments that several commands share, and the types of their values."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import math
import re
from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias

from cvbatch.config.types import bytes_of
from cvbatch.tasks import TASKS

Subparsers: TypeAlias = Any
"""What `add_subparsers` returns; argparse has no public name for it."""

JSON_HELP: Final = "print the result as JSON and nothing else"


class _ArgumentContainer(Protocol):
    """A parser, or a group of its arguments."""

    def add_argument(self, *names: str, **options: Any) -> Any:
        """Add one argument; see `argparse`."""


def add_command_parser(
    subparsers: Subparsers, name: str, summary: str, description: str | None = None
) -> argparse.ArgumentParser:
    """Add a command; its description is the summary as a sentence if there is no longer one."""
    description = description or f"{summary[0].upper()}{summary[1:]}."
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=summary, description=description)
    parser.set_defaults(command_parser=parser)
    return parser


def describe_unknown_arguments(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> str:
    """What is wrong with arguments that a command does not know, with the option that may have been meant.

    Args:
        parser: Of the command.
        unknown: The arguments.
    """
    known = re.findall(r"--[a-z][a-z-]*", parser.format_usage())
    close = [match for word in unknown for match in difflib.get_close_matches(word.partition("=")[0], known, 1, 0.7)]
    hint = f" (did you mean {close[0]}?)" if close and close[0] not in unknown else ""
    return f"unrecognized arguments: {' '.join(unknown)}{hint}; see {parser.prog} --help"


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the job file, and the options that override its keys."""
    parser.add_argument("job", nargs="?", metavar="JOB.yaml", help="job file; optional if the options say everything")
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="URI",
        help="folder, glob in quotes, image, archive, table or manifest; can be repeated",
    )
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME", help="model, see 'cvbatch models'; can be repeated"
    )
    parser.add_argument(
        "--task",
        action="append",
        default=[],
        choices=list(TASKS),
        help="what to find; without --model the embedded model for it is taken; can be repeated",
    )
    parser.add_argument("--output", metavar="URI", help="folder or bucket location of the predictions")
    parser.add_argument("--limit", type=parse_positive, metavar="N", help="label only the first N images")
    add_set_argument(parser, "override a key of the job by its dotted path, such as compute.precision=fp32")
    parser.add_argument(
        "--shared-filesystem",
        action="store_true",
        help="all machines of the cluster see the same files at the same paths",
    )
    add_storage_argument(parser, "how to access a job file in a bucket")


def add_set_argument(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add `--set`."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"{help_text}; can be repeated")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run that are no part of its job."""
    parser.add_argument("--update", action="store_true", help="list the source again; label new and changed images")
    parser.add_argument(
        "--evolve",
        action="store_true",
        help="give a finished run the models of this job: compute new and changed ones, copy the columns of the others",
    )
    add_lease_arguments(parser)
    add_manifest_only_argument(parser)
    add_strict_argument(parser)
    parser.add_argument(
        "--retries",
        type=parse_count,
        default=0,
        metavar="N",
        help="restart the run at most N times if it dies or does not finish (default: 0)",
    )


def add_lease_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--wait` and `--takeover`."""
    lease_options = parser.add_mutually_exclusive_group()
    lease_options.add_argument("--wait", action="store_true", help="wait while another process works on this run")
    add_takeover_argument(lease_options)


def add_takeover_argument(parser: _ArgumentContainer) -> None:
    """Add `--takeover`."""
    parser.add_argument(
        "--takeover", action="store_true", help="take the run over at once from another process that works on it"
    )


def add_strict_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--strict`."""
    parser.add_argument(
        "--strict", action="store_true", help="exit with 3 if an image failed or a file was not read to its end"
    )


def add_address_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the address of a cluster."""
    parser.add_argument(
        "--address",
        required=required,
        metavar="URL",
        help="dashboard of the Ray cluster, such as http://127.0.0.1:8265",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="dangerous: use a cluster on the network without a token, where anybody can run code",
    )


def add_submitted_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the name of a submitted job, and the address of its cluster."""
    parser.add_argument("job", metavar="OUTPUT", help="output of the job, or the name that 'cvbatch submit' printed")
    add_address_arguments(parser)


def add_manifest_only_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--manifest-only`."""
    parser.add_argument(
        "--manifest-only",
        action="store_true",
        help="work without the right to delete: leave replaced files for an operator to remove",
    )


def add_output_argument(parser: argparse.ArgumentParser) -> None:
    """Add the output of a run."""
    parser.add_argument("output", metavar="OUTPUT", help="output of the run")
    add_storage_argument(parser, "how to access an output in a bucket")


def add_storage_argument(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add `--storage`."""
    parser.add_argument(
        "--storage",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"{help_text}; keys: endpoint_url, region, path_style, anonymous, profile; can be repeated",
    )


def parse_count(text: str) -> int:
    """A whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def parse_positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)


def parse_amount(text: str) -> float:
    """A finite number from 0 on."""
    with contextlib.suppress(ValueError):
        if 0 <= (amount := float(text)) < math.inf:
            return amount
    raise argparse.ArgumentTypeError(f"expected a number of 0 or more, got {text!r}")


def parse_size(text: str) -> int:
    """A number of bytes, such as `4GiB`."""
    try:
        return bytes_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
