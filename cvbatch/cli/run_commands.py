"""Commands that label, or measure what labelling would take."""

from __future__ import annotations

import argparse
import os
import sys

from rich.console import Console

from cvbatch.cli.common import importable, interruptible, job_of, output_of, same_command, write_json
from cvbatch.output.log_records import State
from cvbatch.planning.plan import open_run
from cvbatch.results.console import estimate_table, summary_table
from cvbatch.results.progress import Terminal
from cvbatch.runs.supervisor import command_seconds, end_with_watcher, is_watched, supervise, watched_command
from cvbatch.storage.location import Place
from cvbatch.submit.events import EventLines
from cvbatch.system.standard_streams import quiet_libraries, told_if_killed


def run(options: argparse.Namespace) -> int:
    """`cvbatch run`."""
    if options.retries and not is_watched():
        return supervise(
            watched_command(options.given), options.retries, lambda line: sys.stderr.write(f"cvbatch: {line}\n")
        )
    end_with_watcher()
    from cvbatch.pipeline import run as label

    job, folder = job_of(options)
    same = "cvbatch submit, as before" if options.events else same_command(options)
    stopped = f"stopped; what is written is committed. Go on with: {same}"
    events = EventLines(sys.stdout) if options.events else None
    with (
        told_if_killed(_killed(options)),
        quiet_libraries(),
        Terminal(quiet=options.json) as terminal,
        interruptible(stopped),
    ):
        state = label(
            job,
            events or terminal,
            pythonpath=folder,
            refresh=options.update,
            wait=options.wait,
            takeover=options.takeover,
            manifest_only=options.manifest_only,
            moved_from=options.moved_from,
        )
    return _sum_up(job.output.place, state, options, events)


def plan(options: argparse.Namespace) -> int:
    """`cvbatch plan`."""
    from cvbatch.runs.estimate import estimate

    job, folder = job_of(options)
    console = Console(file=sys.stdout)
    with quiet_libraries(), interruptible("stopped; nothing was planned"):
        found = estimate(job, pythonpath=folder)
    if options.json:
        return write_json(found)
    console.print(estimate_table(found))
    return 0


def retry(options: argparse.Namespace) -> int:
    """`cvbatch retry`."""
    from cvbatch.pipeline import retry as label_again

    output = output_of(options)
    folder = open_run(output)[1].pythonpath
    if folder is not None:
        folder = folder if os.path.isdir(folder) else os.getcwd()  # the job has moved: its files are known by content
        importable(folder)
    stopped = f"stopped; what is replaced stays. Go on with: {same_command(options)}"
    with (
        told_if_killed(_killed(options)),
        quiet_libraries(),
        Terminal(quiet=options.json) as terminal,
        interruptible(stopped),
    ):
        state = label_again(
            output,
            options.errors,
            terminal,
            pythonpath=folder,
            overrides=options.set,
            takeover=options.takeover,
            manifest_only=options.manifest_only,
        )
    return _sum_up(output, state, options, None)


def demo(options: argparse.Namespace) -> int:
    """`cvbatch demo`."""
    from cvbatch.demo import run_demo

    console = Console(file=sys.stdout)
    with quiet_libraries(), interruptible():
        return run_demo(options.output, console)


def _killed(options: argparse.Namespace) -> str:
    return (
        "the run was ended from outside: it, or Ray on this machine, was killed, or memory or disk ran out; what is "
        f"written is committed. Go on with: {same_command(options)}"
    )


def _sum_up(output: Place, state: State, options: argparse.Namespace, events: EventLines | None) -> int:
    from cvbatch.results.summary import exit_code, summarise

    summary = summarise(output, state, command_seconds())
    if events is not None:
        events.finished(summary)
    elif options.json:
        write_json(summary)
    else:
        Console().print(summary_table(summary))
    return exit_code(summary, strict=options.strict)
