"""What each command does with its options."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.live import Live

from cvbatch.config import TASKS, Job, load_job
from cvbatch.console import Terminal, estimate_table, facts, models_table, status_table, summary_table
from cvbatch.errors import JobError, RunError
from cvbatch.planning.plan import open_run
from cvbatch.storage.options import StorageOptions
from cvbatch.storage.places import Place, is_object_uri
from cvbatch.writing.holder import BEAT_SECONDS
from cvbatch.writing.log import Log
from cvbatch.writing.records import State

_STRICT_EXIT = 3


def run(options: argparse.Namespace) -> int:
    """`cvbatch run`."""
    from cvbatch.pipeline import run as label

    job, folder = _job(options)
    stopped = f"stopped; what is written is committed. Go on with: {_same_command()}"
    with _native_output_aside(), Terminal(quiet=options.json) as terminal, _interruptible(stopped):
        state = label(
            job,
            terminal,
            pythonpath=folder,
            refresh=options.update,
            wait=options.wait,
            takeover=options.takeover,
            manifest_only=options.manifest_only,
        )
    return _sum_up(job.output.place, state, options)


def plan(options: argparse.Namespace) -> int:
    """`cvbatch plan`."""
    from cvbatch.estimate import estimate

    job, folder = _job(options)
    console = Console(file=sys.stdout)
    with _native_output_aside(), _interruptible("stopped; nothing was planned"):
        found = estimate(job, pythonpath=folder)
    if options.json:
        return _write_json(found)
    console.print(estimate_table(found))
    return 0


def retry(options: argparse.Namespace) -> int:
    """`cvbatch retry`."""
    from cvbatch.pipeline import retry as label_again

    output = _output(options)
    folder = open_run(output)[1].pythonpath
    if folder is not None:
        sys.path.insert(0, folder)
    stopped = f"stopped; what is replaced stays. Go on with: {_same_command()}"
    with _native_output_aside(), Terminal(quiet=options.json) as terminal, _interruptible(stopped):
        state = label_again(
            output, options.errors, terminal, takeover=options.takeover, manifest_only=options.manifest_only
        )
    return _sum_up(output, state, options)


def status(options: argparse.Namespace) -> int:
    """`cvbatch status`."""
    from cvbatch.summary import status as status_of

    output = _output(options)
    log = _log(output)
    if options.json:
        return _write_json(status_of(output, log))
    console = Console()
    if not options.watch:
        console.print(status_table(status_of(output, log)))
        return 0
    with _interruptible(), contextlib.suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            log.read()
            found = status_of(output, log)
            live.update(status_table(found), refresh=True)
            if found["finished"]:
                break
            time.sleep(BEAT_SECONDS)
    return 0


def verify(options: argparse.Namespace) -> int:
    """`cvbatch verify`."""
    from cvbatch.writing.verify import verify as prove

    log = _log(_output(options), whole=True)
    verdict = prove(log.store, log, deep=options.deep)
    if options.json:
        _write_json({**asdict(verdict), "proven": verdict.proven})
    else:
        rows = [
            ("rows", f"{verdict.committed:,} of {verdict.planned:,} planned, {verdict.errors:,} of them errors"),
            ("files", f"{verdict.files:,}"),
        ]
        rows += [("problem", problem) for problem in verdict.problems[:20]]
        if verdict.strays:
            by_whom = "the next cvbatch run removes it" if log.store.may_delete() else "remove it, this job may not"
            rows += [("stray file", f"{path}; {by_whom}") for path in verdict.strays[:20]]
        rows.append(("verdict", "every planned row is there exactly once" if verdict.proven else "not proven"))
        Console().print(facts(rows, title=options.output))
    return 0 if verdict.proven else 1


def models(options: argparse.Namespace) -> int:
    """`cvbatch models`."""
    from cvbatch.models.registry import list_models

    found = [asdict(model) for model in list_models(options.task)]
    if options.json:
        return _write_json(found)
    console = Console()
    for task in [options.task] if options.task else TASKS:
        console.print(models_table(task, [model for model in found if task in model["tasks"]]))
    for note in dict.fromkeys(f"{model['model']}: {model['note']}" for model in found if model["note"]):
        console.print(note, highlight=False)
    return 0


def demo(options: argparse.Namespace) -> int:
    """`cvbatch demo`."""
    from cvbatch.demo import run_demo

    console = Console(file=sys.stdout)
    with _native_output_aside(), _interruptible():
        return run_demo(options.output, console)


def _job(options: argparse.Namespace) -> tuple[Job, str | None]:
    """The job that is asked for, and the folder that its `python:` models are imported from."""
    storage, remote = StorageOptions.parse(options.storage), options.job is not None and is_object_uri(options.job)
    if options.storage and not remote:
        raise JobError("--storage: says how to reach a job file in a bucket; for what a job names use --set")
    job = load_job(options.job, overrides=options.set, defaults=_flags(options), storage=storage)
    folder = None
    if any(model.model.startswith("python:") for model in job.models):
        folder = os.path.dirname(os.path.abspath(options.job)) if options.job and not remote else os.getcwd()
        sys.path.insert(0, folder)
    return job, folder


def _sum_up(output: Place, state: State, options: argparse.Namespace) -> int:
    from cvbatch.summary import summarise

    summary = summarise(output, state)
    if options.json:
        _write_json(summary)
    else:
        Console().print(summary_table(summary))
    return _STRICT_EXIT if options.strict and summary["errors"] else 0


def _output(options: argparse.Namespace) -> Place:
    """Where the run is that a command is about."""
    return Place.of(options.output, StorageOptions.parse(options.storage))


def _flags(options: argparse.Namespace) -> dict[str, Any]:
    """The common options as the nested values that they stand for."""
    values: dict[str, Any] = {}
    if options.source is not None:
        values["source"] = {"uri": options.source}
    if options.limit is not None:
        values.setdefault("source", {})["limit"] = options.limit
    if options.model:
        values["models"] = [{"model": name} for name in options.model]
    if options.output is not None:
        values["output"] = {"uri": options.output}
    return values


def _log(output: Place, *, whole: bool = False) -> Log:
    store, plan = open_run(output)
    return Log(store, plan.rows, whole=whole)


@contextlib.contextmanager
def _interruptible(stopped: str | None = None) -> Iterator[None]:
    """SIGTERM is treated like Ctrl-C; a second one of either ends the process at once.

    Args:
        stopped: What to say of it; None leaves the interruption as it is.

    Raises:
        RunError: With these words.
    """

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        if stopped is None:
            raise
        raise RunError(stopped) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _native_output_aside() -> Iterator[None]:
    """Keep what native libraries write to descriptor 2, and Ray to standard output, away from what we say.

    Python's own standard error still reaches the terminal. The text lies in a temporary file, which only
    a process that native code aborts leaves behind.
    """
    python_side, native_side = sys.stderr, os.dup(2)
    path = os.path.join(tempfile.gettempdir(), f"cvbatch-{os.getpid()}.stderr")
    with open(native_side, "w", buffering=1) as terminal, open(path, "w") as aside:
        sys.stderr = terminal
        os.dup2(aside.fileno(), 2)
        try:
            with contextlib.redirect_stdout(aside):
                yield
        finally:
            os.dup2(native_side, 2)
            sys.stderr = python_side
            os.unlink(path)


def _same_command() -> str:
    return shlex.join(["cvbatch", *sys.argv[1:]])


def _write_json(content: Mapping[str, Any] | list[Any]) -> int:
    sys.stdout.write(json.dumps(content, default=str) + "\n")
    return 0
