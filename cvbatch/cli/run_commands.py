"""Commands that label images, or estimate the time for it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator

from rich.console import Console

from cvbatch.cli.common import (
    describe_same_command,
    job_from_options,
    make_importable,
    output_from_options,
    print_json,
    stop_on_signals,
)
from cvbatch.config.job import Job
from cvbatch.errors import OtherModelsError, UsageError
from cvbatch.output.log_records import RunState
from cvbatch.planning.plan import open_run
from cvbatch.results.console import estimate_table, summary_table
from cvbatch.results.progress import TerminalProgress
from cvbatch.runs.supervisor import (
    end_with_supervisor,
    is_supervised,
    run_supervised,
    seconds_since_command,
    supervised_command,
)
from cvbatch.storage.location import Location
from cvbatch.submit.events import EventLines
from cvbatch.system.standard_streams import quiet_libraries, report_if_killed


def run_command(options: argparse.Namespace) -> int:
    """`cvbatch run`."""
    if options.retries and not is_supervised():
        return run_supervised(
            supervised_command(options.given), options.retries, lambda line: sys.stderr.write(f"cvbatch: {line}\n")
        )
    end_with_supervisor()
    from cvbatch.evolution.evolve import evolve_run
    from cvbatch.pipeline import run

    _check_evolve_options(options)
    job, folder = job_from_options(options)
    command = "the same cvbatch submit" if options.events else describe_same_command(options)
    stopped = f"stopped; rows that are written are committed. Resume with: {command}"
    events = EventLines(sys.stdout) if options.events else None
    with _attempt_on_terminal(options, stopped) as terminal:
        lease = {"wait": options.wait, "takeover": options.takeover}
        if options.evolve:
            state = evolve_run(job, events or terminal, pythonpath=folder, **lease)
        else:
            with _advise_to_evolve(job, folder):
                state = run(
                    job,
                    events or terminal,
                    pythonpath=folder,
                    refresh=options.update,
                    manifest_only=options.manifest_only,
                    moved_from=options.moved_from,
                    **lease,
                )
    return _report_summary(job.output.location, state, options, events)


@contextlib.contextmanager
def _advise_to_evolve(job: Job, folder: str | None) -> Iterator[None]:
    """Add to a refusal because of other models what `--evolve` would do."""
    from cvbatch.evolution.estimate import describe_evolution

    try:
        yield
    except OtherModelsError as error:
        advice = f"or add --evolve: it {describe_evolution(job, pythonpath=folder)}"
        raise OtherModelsError(f"{error}, {advice}") from None


def _check_evolve_options(options: argparse.Namespace) -> None:
    """Check that `--evolve` comes without options for other changes of a run.

    Raises:
        UsageError: Names the first of them.
    """
    for name in ("update", "manifest_only", "moved_from"):
        if options.evolve and getattr(options, name):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"--evolve changes the models, and nothing else: give {option} in a run before or after it"
            )


def plan_command(options: argparse.Namespace) -> int:
    """`cvbatch plan`."""
    from cvbatch.evolution.estimate import estimate_job

    job, folder = job_from_options(options)
    console = Console(file=sys.stdout)
    with quiet_libraries(), stop_on_signals("stopped; nothing was planned"):
        estimate = estimate_job(job, pythonpath=folder)
    if options.json:
        return print_json(estimate)
    console.print(estimate_table(estimate))
    return 0


def retry_command(options: argparse.Namespace) -> int:
    """`cvbatch retry`."""
    from cvbatch.pipeline import retry

    output = output_from_options(options)
    folder = open_run(output)[1].pythonpath
    if folder is not None:
        folder = folder if os.path.isdir(folder) else os.getcwd()  # moved: files are compared by content
        make_importable(folder)
    stopped = f"stopped; rows that are replaced stay replaced. Resume with: {describe_same_command(options)}"
    with _attempt_on_terminal(options, stopped) as terminal:
        state = retry(
            output,
            options.errors,
            terminal,
            pythonpath=folder,
            overrides=options.set,
            takeover=options.takeover,
            manifest_only=options.manifest_only,
        )
    return _report_summary(output, state, options, None)


def demo_command(options: argparse.Namespace) -> int:
    """`cvbatch demo`."""
    from cvbatch.demo import run_demo

    console = Console(file=sys.stdout)
    with quiet_libraries(), stop_on_signals():
        return run_demo(options.output, console)


@contextlib.contextmanager
def _attempt_on_terminal(options: argparse.Namespace, stopped: str) -> Iterator[TerminalProgress]:
    """Show the progress of an attempt; say how it can be resumed if it is stopped or killed.

    Args:
        options: Of the command.
        stopped: Message if a signal stops the attempt.
    """
    with (
        report_if_killed(_killed_message(options)),
        quiet_libraries(),
        TerminalProgress(quiet=options.json) as terminal,
        stop_on_signals(stopped),
    ):
        yield terminal


def _killed_message(options: argparse.Namespace) -> str:
    return (
        "the run was ended from outside: it, or Ray on this machine, was killed, or memory or disk ran out; rows that "
        f"are written are committed. Resume with: {describe_same_command(options)}"
    )


def _report_summary(output: Location, state: RunState, options: argparse.Namespace, events: EventLines | None) -> int:
    from cvbatch.results.summary import exit_code_of_summary, summarize_run

    summary = summarize_run(output, state, seconds_since_command())
    if events is not None:
        events.on_finished(summary)
    elif options.json:
        print_json(summary)
    else:
        Console().print(summary_table(summary))
    return exit_code_of_summary(summary, strict=options.strict)
