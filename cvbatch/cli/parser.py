"""The command line: the commands and their arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Final, NoReturn

from cvbatch.cli import commands, train_command
from cvbatch.cli.answers import ANSWER_COMMANDS
from cvbatch.cli.arguments import (
    JSON_HELP,
    Subparsers,
    add_address_arguments,
    add_command_parser,
    add_job_arguments,
    add_manifest_only_argument,
    add_output_argument,
    add_run_arguments,
    add_set_argument,
    add_strict_argument,
    add_submitted_arguments,
    add_takeover_argument,
    describe_unknown_arguments,
    parse_amount,
    parse_size,
)
from cvbatch.cli.edits import EDIT_COMMANDS
from cvbatch.cli.globs import refuse_expanded_glob
from cvbatch.errors import CvbatchError, UsageError
from cvbatch.runs.supervisor import exit_code_of_error
from cvbatch.tasks import TASKS

_EXAMPLES: Final = """\
examples:
  cvbatch demo
  cvbatch run --source photos --model efficientnet_lite0 --output labels
  cvbatch run job.yaml --limit 100 --set compute.precision=fp32
  cvbatch status labels

exit codes:
  0  done
  1  not finished; the same command resumes it
  2  the request is wrong; nothing was started
  3  done, but a folder, an archive or a table of the source gave no images;
     with --strict also if an image failed or a file was not read to its end
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Without the program's name; by default those of the process.

    Returns:
        The exit code: 0 done; 3 done, but a folder, an archive or a table gave nothing, or any image failed under
        `--strict`; 2 wrong request; 1 not finished.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argument_parser()
    options, unknown = parser.parse_known_args(given, argparse.Namespace(given=given))
    try:
        if unknown:
            refuse_expanded_glob(getattr(options, "job", None), unknown, getattr(options, "source", []))
            raise UsageError(describe_unknown_arguments(options.command_parser, unknown))
        code: int = options.command(options)
    except CvbatchError as error:
        sys.stderr.write(f"cvbatch: {error}\n")
        return exit_code_of_error(error)
    except KeyboardInterrupt:  # in commands that have nothing to clean up
        sys.stderr.write("cvbatch: stopped\n")
        return CvbatchError.exit_code
    return code


class _OneLineParser(argparse.ArgumentParser):
    """Reports wrong arguments in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(UsageError.exit_code, f"{self.prog}: {message}; see {self.prog} --help\n")


def argument_parser() -> argparse.ArgumentParser:
    """The parser of all commands; it sets `command` to the function of `commands` to call."""
    parser = _OneLineParser(
        prog="cvbatch",
        description="Label large image archives with pretrained vision models, exactly once per image.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cvbatch {metadata.version('cvbatch')}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    _add_run_commands(subparsers)
    _add_inspect_commands(subparsers)
    for add_command in (*ANSWER_COMMANDS, *EDIT_COMMANDS, train_command.add_command):
        add_command(subparsers)
    _add_cluster_commands(subparsers)

    demo = add_command_parser(subparsers, "demo", "label a small archive of real photos with all four tasks")
    demo.set_defaults(command=commands.demo_command)
    demo.add_argument(
        "--output",
        metavar="DIR",
        default="cvbatch-demo",
        help="local folder for the photos, the predictions and the contact sheet (default: cvbatch-demo)",
    )
    return parser


def _add_run_commands(subparsers: Subparsers) -> None:
    run = add_command_parser(
        subparsers,
        "run",
        "label every image of a source, or resume an unfinished run",
        "Label every image of a source. The same command resumes a run that was interrupted, and returns at once "
        "from a run that is finished.",
    )
    run.set_defaults(command=commands.run_command)
    add_job_arguments(run)
    add_run_arguments(run)
    run.add_argument(
        "--moved-from",
        action="append",
        default=[],
        metavar="URI",
        help="former location of a source that has moved; the job names the new one; can be repeated",
    )
    printed = run.add_mutually_exclusive_group()
    printed.add_argument("--json", action="store_true", help=JSON_HELP)
    printed.add_argument("--events", action="store_true", help="print one line of JSON for each event")

    plan = add_command_parser(
        subparsers,
        "plan",
        "estimate how long a run would take, without running it",
        "List the source, measure the models on some of its images, and calculate. Nothing is written to the output.",
    )
    plan.set_defaults(command=commands.plan_command)
    add_job_arguments(plan)
    plan.add_argument("--json", action="store_true", help=JSON_HELP)

    retry = add_command_parser(
        subparsers,
        "retry",
        "label failed images again",
        "Label the failed images of a finished run again. All other rows stay as they are.",
    )
    retry.set_defaults(command=commands.retry_command)
    add_output_argument(retry)
    retry.add_argument(
        "--errors",
        choices=("transient", "all"),
        default="transient",
        help="errors that another attempt may not have, such as timeouts, or all errors (default: transient)",
    )
    add_set_argument(retry, "new location of something that has moved, such as models.0.checkpoint=PATH")
    add_takeover_argument(retry)
    add_manifest_only_argument(retry)
    add_strict_argument(retry)
    retry.add_argument("--json", action="store_true", help=JSON_HELP)


def _add_inspect_commands(subparsers: Subparsers) -> None:
    status = add_command_parser(
        subparsers,
        "status",
        "show the progress of a run or a training",
        "Show the progress of a run or a training. With --address, ask the cluster instead of reading the output.",
    )
    status.set_defaults(command=commands.status_command)
    add_output_argument(status)
    printed = status.add_mutually_exclusive_group()
    printed.add_argument("--watch", action="store_true", help="update the display until the run is finished")
    printed.add_argument("--json", action="store_true", help=JSON_HELP)
    add_address_arguments(status, required=False)

    verify = add_command_parser(
        subparsers,
        "verify",
        "check that each planned image has exactly one row",
        "Check that each planned image has exactly one row. Exit with 0 if that is proven, else with 1.",
    )
    verify.set_defaults(command=commands.verify_command)
    add_output_argument(verify)
    verify.add_argument("--deep", action="store_true", help="also read every row of every file")
    verify.add_argument("--json", action="store_true", help=JSON_HELP)

    models = add_command_parser(subparsers, "models", "list the available models")
    models.set_defaults(command=commands.models_command)
    models.add_argument("task", nargs="?", choices=list(TASKS), help="list only the models for this task")
    models.add_argument("--json", action="store_true", help=JSON_HELP)


def _add_cluster_commands(subparsers: Subparsers) -> None:
    submit = add_command_parser(
        subparsers,
        "submit",
        "run a job on an existing Ray cluster",
        "Run a job on an existing Ray cluster. The same command again finds the job that is already there.",
    )
    submit.set_defaults(command=commands.submit_command)
    add_job_arguments(submit)
    add_run_arguments(submit)
    add_address_arguments(submit)
    submit.add_argument("--follow", action="store_true", help="show the job's progress; exit with the job's exit code")
    submit.add_argument("--json", action="store_true", help=JSON_HELP)
    submit.add_argument(
        "--driver-cpus",
        type=parse_amount,
        default=0,
        metavar="N",
        help="CPUs to reserve for the driver, the process that directs the run (default: 0)",
    )
    submit.add_argument(
        "--driver-memory", type=parse_size, metavar="BYTES", help="memory to reserve for the driver, such as 4GiB"
    )

    logs = add_command_parser(subparsers, "logs", "show the log of a submitted job")
    logs.set_defaults(command=commands.logs_command)
    add_submitted_arguments(logs)
    logs.add_argument("--follow", action="store_true", help="follow the job to its end; exit with the job's exit code")

    stop = add_command_parser(subparsers, "stop", "stop a submitted job; rows that are written are committed first")
    stop.set_defaults(command=commands.stop_command)
    add_submitted_arguments(stop)


if __name__ == "__main__":
    sys.exit(main())
