"""What commands have in common: their job, their run, how they are interrupted and how they answer."""

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
from cvbatch.planning.plan import open_run
from cvbatch.runs.supervisor import ending_signals
from cvbatch.storage.location import Location, is_object_uri
from cvbatch.storage.options import StorageOptions

_ONE_MOMENT: Final = 1.0
"""Seconds within which a second signal is the first one again."""


def job_from_options(options: argparse.Namespace) -> tuple[Job, str | None]:
    """The job that is asked for, and the folder that its `python:` models are imported from."""
    storage, remote = (
        StorageOptions.parse_assignments(options.storage),
        options.job is not None and is_object_uri(options.job),
    )
    if options.storage and not remote:
        raise JobError("--storage: says how to reach a job file in a bucket; for what a job names use --set")
    refuse_expanded_glob(options.job, [], options.source)
    job = load_job(options.job, overrides=options.set, defaults=overrides_from_options(options), storage=storage)
    folder = None
    if any(model.model.startswith(PYTHON) for model in job.models):
        folder = os.path.dirname(os.path.abspath(options.job)) if options.job and not remote else os.getcwd()
        make_importable(folder)
    return job, folder


def make_importable(folder: str) -> None:
    """Let this process import own modules, whose errors may reach it: last, so that they hide nothing of Python's."""
    if folder not in sys.path:
        sys.path.append(folder)


def output_from_options(options: argparse.Namespace) -> Location:
    """Where the run is that a command is about."""
    return Location.from_uri(options.output, StorageOptions.parse_assignments(options.storage))


def overrides_from_options(options: argparse.Namespace) -> dict[str, Any]:
    """The common options as the nested values that they stand for."""
    values: dict[str, Any] = {}
    if options.source:
        values["source"] = {"uri": options.source}
    if options.limit is not None:
        values.setdefault("source", {})["limit"] = options.limit
    if options.model:
        values["models"] = [{"model": name} for name in options.model]
    if options.output is not None:
        values["output"] = {"uri": options.output}
    if options.shared_filesystem:
        values["compute"] = {"shared_filesystem": True}
    return values


def open_log(output: Location, *, whole: bool = False) -> CommitLog:
    """The commit log of a run, read to its end."""
    store, plan = open_run(output)
    return CommitLog(store, plan.rows, whole=whole)


@contextlib.contextmanager
def stop_on_signals(stopped: str | None = None) -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that is closed, are treated like Ctrl-C; a later one ends the process at once.

    Under nohup SIGHUP stays ignored.

    One that follows in a moment is the same: a terminal and Ray tell the whole group, and a watcher tells it again.

    Args:
        stopped: What to say of it; None leaves the interruption as it is.

    Raises:
        RunError: With these words.
    """
    told: float | None = None

    def handle_signal(number: int, _: object) -> None:
        nonlocal told
        if told is None:
            told = time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - told > _ONE_MOMENT:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    before = {number: signal.signal(number, handle_signal) for number in ending_signals()}
    try:
        yield
    except KeyboardInterrupt:
        if stopped is None:
            raise
        raise RunError(stopped) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def describe_same_command(options: argparse.Namespace) -> str:
    """What was typed, to be given again."""
    return shlex.join(["cvbatch", *options.given])


def print_json(content: Mapping[str, Any] | list[Any]) -> int:
    """Print a result and nothing else; returns exit code 0."""
    sys.stdout.write(json.dumps(content, default=str) + "\n")
    return 0
