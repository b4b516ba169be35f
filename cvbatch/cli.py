"""The command line: argument parsing only."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from cvbatch import commands
from cvbatch.config import TASKS
from cvbatch.errors import CvbatchError, UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 3 done but with error rows under `--strict`, 2 wrong request, 1 not finished.
    """
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except CvbatchError as error:
        sys.stderr.write(f"cvbatch: {error}\n")
        return error.exit_code
    return code


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    def error(self, message: str) -> NoReturn:
        self.exit(UsageError.exit_code, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="cvbatch", description="Label large image archives with pretrained models.")
    parser.add_argument("--version", action="version", version=f"cvbatch {metadata.version('cvbatch')}")
    commands_of = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands_of.add_parser("run", help="label every image of a source, or go on with it")
    run.set_defaults(command=commands.run)
    _job_arguments(run)
    run.add_argument("--update", action="store_true", help="list the source again; label what is new or changed")
    holders = run.add_mutually_exclusive_group()
    holders.add_argument("--wait", action="store_true", help="wait for another start that works on the same run")
    holders.add_argument("--takeover", action="store_true", help="take over from another start at once")
    _manifest_only_argument(run)
    run.add_argument("--strict", action="store_true", help="exit with 3 if any image failed")
    run.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")

    plan = commands_of.add_parser("plan", help="count, measure and say how fast a run would be, without running it")
    plan.set_defaults(command=commands.plan)
    _job_arguments(plan)
    plan.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")

    status = commands_of.add_parser("status", help="how far a run is")
    status.set_defaults(command=commands.status)
    _output_argument(status)
    shown = status.add_mutually_exclusive_group()
    shown.add_argument("--watch", action="store_true", help="show it until the run is finished")
    shown.add_argument("--json", action="store_true")

    retry = commands_of.add_parser("retry", help="label failed images again")
    retry.set_defaults(command=commands.retry)
    _output_argument(retry)
    retry.add_argument(
        "--errors", choices=("transient", "all"), default="transient", help="those that may pass by, or all"
    )
    retry.add_argument("--takeover", action="store_true", help="take over from another start at once")
    _manifest_only_argument(retry)
    retry.add_argument("--strict", action="store_true", help="exit with 3 if any image failed")
    retry.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")

    verify = commands_of.add_parser("verify", help="prove that every planned row is there exactly once")
    verify.set_defaults(command=commands.verify)
    _output_argument(verify)
    verify.add_argument("--deep", action="store_true", help="read every row of every file")
    verify.add_argument("--json", action="store_true")

    models = commands_of.add_parser("models", help="what can be run")
    models.set_defaults(command=commands.models)
    models.add_argument("task", nargs="?", choices=TASKS)
    models.add_argument("--json", action="store_true")

    demo = commands_of.add_parser("demo", help="label a small archive of real photos with all four tasks")
    demo.set_defaults(command=commands.demo)
    demo.add_argument("--output", metavar="DIR", default="cvbatch-demo")
    return parser


def _job_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", nargs="?", metavar="JOB.yaml", help="job file; not needed if the options say it all")
    parser.add_argument("--source", metavar="URI", help="directory, glob, image or manifest")
    parser.add_argument("--model", action="append", default=[], metavar="NAME", help="model; may be given again")
    parser.add_argument("--output", metavar="URI", help="where the predictions go")
    parser.add_argument("--limit", type=_positive, metavar="N", help="only the first N images")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, by dotted path")
    _storage_argument(parser, "how to reach a job file in an object store")


def _manifest_only_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--manifest-only", action="store_true", help="without the right to delete: leave replaced files to an operator"
    )


def _output_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT")
    _storage_argument(parser, "how to reach an object store")


def _storage_argument(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--storage",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"{what}: endpoint_url, region, path_style, anonymous, profile; may be given again",
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
