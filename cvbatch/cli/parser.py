"""The command line: argument parsing only."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from cvbatch.cli import commands
from cvbatch.cli.globs import refuse_expanded_glob
from cvbatch.config.types import bytes_of
from cvbatch.errors import CvbatchError, UsageError
from cvbatch.runs.supervisor import exit_code_of_error
from cvbatch.tasks import TASKS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done; 3 done, but a folder, an archive or a table gave nothing, or any image failed under
        `--strict`; 2 wrong request; 1 not finished.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argument_parser()
    options, more = parser.parse_known_args(given, argparse.Namespace(given=given))
    try:
        if more:
            refuse_expanded_glob(getattr(options, "job", None), more, getattr(options, "source", []))
            parser.error(f"unrecognized arguments: {' '.join(more)}")
        code: int = options.command(options)
    except CvbatchError as error:
        sys.stderr.write(f"cvbatch: {error}\n")
        return exit_code_of_error(error)
    except KeyboardInterrupt:  # of commands that have nothing to tidy up
        sys.stderr.write("cvbatch: stopped\n")
        return CvbatchError.exit_code
    return code


class _OneLineParser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    def error(self, message: str) -> NoReturn:
        self.exit(UsageError.exit_code, f"{self.prog}: {message}; see {self.prog} --help\n")


def argument_parser() -> argparse.ArgumentParser:
    """The parser of all commands; what it gives names the function of `commands` to call as `command`."""
    parser = _OneLineParser(prog="cvbatch", description="Label large image archives with pretrained models.")
    parser.add_argument("--version", action="version", version=f"cvbatch {metadata.version('cvbatch')}")
    commands_of = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands_of.add_parser("run", help="label every image of a source, or go on with it")
    run.set_defaults(command=commands.run_command)
    _add_job_arguments(run)
    _add_run_arguments(run)
    run.add_argument(
        "--moved-from",
        action="append",
        default=[],
        metavar="URI",
        help="where the source of this run was: it lies elsewhere now, as the job says; may be given again",
    )
    shown = run.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    shown.add_argument("--events", action="store_true", help="print a line of JSON for everything that happens")

    plan = commands_of.add_parser("plan", help="count, measure and say how fast a run would be, without running it")
    plan.set_defaults(command=commands.plan_command)
    _add_job_arguments(plan)
    plan.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")

    status = commands_of.add_parser("status", help="how far a run is")
    status.set_defaults(command=commands.status_command)
    _add_output_argument(status)
    shown = status.add_mutually_exclusive_group()
    shown.add_argument("--watch", action="store_true", help="show it until the run is finished")
    shown.add_argument("--json", action="store_true")
    _add_address_arguments(status, required=False)

    retry = commands_of.add_parser("retry", help="label failed images again")
    retry.set_defaults(command=commands.retry_command)
    _add_output_argument(retry)
    retry.add_argument(
        "--errors", choices=("transient", "all"), default="transient", help="those that may pass by, or all"
    )
    _add_set_argument(retry, "where something lies now, such as models.0.checkpoint=PATH")
    retry.add_argument("--takeover", action="store_true", help="take over from another start at once")
    _add_manifest_only_argument(retry)
    retry.add_argument(
        "--strict", action="store_true", help="exit with 3 if any image failed, or a file was not read to its end"
    )
    retry.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")

    verify = commands_of.add_parser("verify", help="prove that every planned row is there exactly once")
    verify.set_defaults(command=commands.verify_command)
    _add_output_argument(verify)
    verify.add_argument("--deep", action="store_true", help="read every row of every file")
    verify.add_argument("--json", action="store_true")

    models = commands_of.add_parser("models", help="what can be run")
    models.set_defaults(command=commands.models_command)
    models.add_argument("task", nargs="?", choices=list(TASKS))
    models.add_argument("--json", action="store_true")

    submit = commands_of.add_parser("submit", help="run a job on a Ray cluster that stands")
    submit.set_defaults(command=commands.submit_command)
    _add_job_arguments(submit)
    _add_run_arguments(submit)
    _add_address_arguments(submit)
    submit.add_argument("--follow", action="store_true", help="show its progress, and end as it ends")
    submit.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    submit.add_argument(
        "--driver-cpus",
        type=_parse_amount,
        default=0,
        metavar="N",
        help="CPUs to keep for the process that directs the run",
    )
    submit.add_argument("--driver-memory", type=_parse_size, metavar="BYTES", help="the same for memory, such as 4GiB")

    logs = commands_of.add_parser("logs", help="what a submitted job said")
    logs.set_defaults(command=commands.logs_command)
    _add_submitted_arguments(logs)
    logs.add_argument("--follow", action="store_true", help="until it is over; end as it ends")

    stop = commands_of.add_parser("stop", help="stop a submitted job; what is written is committed")
    stop.set_defaults(command=commands.stop_command)
    _add_submitted_arguments(stop)

    demo = commands_of.add_parser("demo", help="label a small archive of real photos with all four tasks")
    demo.set_defaults(command=commands.demo_command)
    demo.add_argument("--output", metavar="DIR", default="cvbatch-demo")
    return parser


def _add_job_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", nargs="?", metavar="JOB.yaml", help="job file; not needed if the options say it all")
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="URI",
        help="directory, quoted glob, image, archive or manifest; may be given again",
    )
    parser.add_argument("--model", action="append", default=[], metavar="NAME", help="model; may be given again")
    parser.add_argument("--output", metavar="URI", help="where the predictions go")
    parser.add_argument("--limit", type=_parse_positive, metavar="N", help="only the first N images")
    _add_set_argument(parser, "override, by dotted path")
    parser.add_argument(
        "--shared-filesystem",
        action="store_true",
        help="all machines of the cluster see the same files under the same paths",
    )
    _add_storage_argument(parser, "how to reach a job file in an object store")


def _add_set_argument(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=what)


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--update", action="store_true", help="list the source again; label what is new or changed")
    holders = parser.add_mutually_exclusive_group()
    holders.add_argument("--wait", action="store_true", help="wait for another start that works on the same run")
    holders.add_argument("--takeover", action="store_true", help="take over from another start at once")
    _add_manifest_only_argument(parser)
    parser.add_argument(
        "--strict", action="store_true", help="exit with 3 if any image failed, or a file was not read to its end"
    )
    parser.add_argument(
        "--retries",
        type=_parse_count,
        default=0,
        metavar="N",
        help="start again up to N times if the run dies or breaks off",
    )


def _add_address_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("--address", required=required, metavar="URL", help="dashboard of the cluster that it runs on")
    parser.add_argument(
        "--insecure", action="store_true", help="dangerous: give jobs to a cluster on the network without a token"
    )


def _add_submitted_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="OUTPUT", help="of the job, or what cvbatch submit called it")
    _add_address_arguments(parser)


def _add_manifest_only_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--manifest-only", action="store_true", help="without the right to delete: leave replaced files to an operator"
    )


def _add_output_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT")
    _add_storage_argument(parser, "how to reach an object store")


def _add_storage_argument(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--storage",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"{what}: endpoint_url, region, path_style, anonymous, profile; may be given again",
    )


def _parse_count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def _parse_amount(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (amount := float(text)) < math.inf:
            return amount
    raise argparse.ArgumentTypeError(f"expected a number from 0 on, got {text!r}")


def _parse_size(text: str) -> int:
    try:
        return bytes_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parse_positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
