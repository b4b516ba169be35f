"""What several commands need: the job, the run, signals, and JSON output."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cvbatch.cli.globs import refuse_expanded_glob
from cvbatch.config.job import PYTHON, Job
from cvbatch.config.job_file import load_job
from cvbatch.errors import JobError, RunError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.store import open_store
from cvbatch.planning.plan import load_plan, open_run
from cvbatch.runs.supervisor import ending_signals
from cvbatch.storage.location import Location, is_object_uri
from cvbatch.storage.options import StorageOptions

_ONE_MOMENT: Final = 1.0
"""A signal within this many seconds after the first one counts as the same signal."""


def job_from_options(options: argparse.Namespace) -> tuple[Job, str | None]:
    """The requested job, and the folder that its `python:` models are imported from; None if it has none."""
    storage = StorageOptions.parse_assignments(options.storage)
    is_in_bucket = options.job is not None and is_object_uri(options.job)
    if options.storage and not is_in_bucket:
        raise JobError("--storage: expected only with a job file in a bucket; for what the job names use --set")
    refuse_expanded_glob(options.job, [], options.source)
    if options.task and options.job is not None and not options.model:
        raise JobError(
            f"--task: {options.job} says which models do which tasks: add --model NAME, or change the task of one with "
            f"--set models.0.task={options.task[0]}"
        )
    job = load_job(options.job, overrides=options.set, defaults=overrides_from_options(options), storage=storage)
    folder = None
    if any(model.model.startswith(PYTHON) for model in job.models):
        folder = os.path.dirname(os.path.abspath(options.job)) if options.job and not is_in_bucket else os.getcwd()
        make_importable(folder)
    return job, folder


def make_importable(folder: str) -> None:
    """Let this process import the user's modules, whose errors may reach it.

    The folder comes last on the path, so its modules hide none of Python's.
    """
    if folder not in sys.path:
        sys.path.append(folder)


def output_from_options(options: argparse.Namespace) -> Location:
    """Location of the run that a command is about."""
    return Location.from_uri(options.output, StorageOptions.parse_assignments(options.storage))


def overrides_from_options(options: argparse.Namespace) -> dict[str, Any]:
    """The job options as the nested keys of a job file."""
    values: dict[str, Any] = {}
    if options.source:
        values["source"] = {"uri": options.source}
    if options.limit is not None:
        values.setdefault("source", {})["limit"] = options.limit
    if options.model or options.task:
        values["models"] = [
            {key: value for key, value in (("model", model), ("task", task)) if value is not None}
            for model in options.model or [None]
            for task in options.task or [None]
        ]
    if options.output is not None:
        values["output"] = {"uri": options.output}
    if options.shared_filesystem:
        values["compute"] = {"shared_filesystem": True}
    return values


def is_training(output: Location) -> bool:
    """Whether an output is that of `cvbatch train`."""
    from cvbatch.training.plan import load_training_plan  # most commands need nothing of it

    store = open_store(output)
    return load_plan(store) is None and load_training_plan(store) is not None


def open_log(output: Location, *, whole: bool = False) -> CommitLog:
    """The commit log of a run, read to its end."""
    store, plan = open_run(output)
    return CommitLog(store, plan.rows, whole=whole)


@contextlib.contextmanager
def stop_on_signals(stopped: str | None = None) -> Iterator[None]:
    """Treat SIGTERM, and SIGHUP from a closed terminal, like Ctrl-C; a later signal ends the process at once.

    Under nohup, SIGHUP stays ignored. A signal that follows within a moment counts as the same one: a terminal and
    Ray signal the whole process group, and a supervisor signals the process again.

    Args:
        stopped: Message of the error; None lets KeyboardInterrupt through.

    Raises:
        RunError: A signal came, and `stopped` was given.
    """
    first_signal_time: float | None = None

    def handle_signal(number: int, _: object) -> None:
        nonlocal first_signal_time
        if first_signal_time is None:
            first_signal_time = time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - first_signal_time > _ONE_MOMENT:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    previous_handlers = {number: signal.signal(number, handle_signal) for number in ending_signals()}
    try:
        yield
    except KeyboardInterrupt:
        if stopped is None:
            raise
        raise RunError(stopped) from None
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


def describe_same_command(options: argparse.Namespace) -> str:
    """The command as it was typed, to run it again."""
    return shlex.join(["cvbatch", *options.given])


def print_json(content: Mapping[str, Any] | list[Any]) -> int:
    """Print a result and nothing else; returns exit code 0."""
    sys.stdout.write(json.dumps(content, default=str) + "\n")
    return 0
