"""Commands that show runs and models, and change nothing."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from cvbatch.cli.cluster_commands import job_status
from cvbatch.cli.common import is_training, open_log, output_from_options, print_json, stop_on_signals
from cvbatch.errors import OutputError, UsageError
from cvbatch.output.lease import HEARTBEAT_SECONDS
from cvbatch.results.console import facts_table, models_table, status_table
from cvbatch.storage.location import Location
from cvbatch.system.standard_streams import is_output_closed
from cvbatch.tasks import TASKS


def status_command(options: argparse.Namespace) -> int:
    """`cvbatch status`."""
    if options.address is not None:
        if options.watch or options.storage:
            raise UsageError("--address asks the cluster once: expected no --watch or --storage with it; leave one out")
        return job_status(options)
    output = output_from_options(options)
    read, render = _choose_status(output)
    if options.json:
        return print_json(read())
    console = Console()
    if not options.watch:
        console.print(render(read()))
        return 0
    with stop_on_signals(), contextlib.suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            status = read()
            live.update(render(status), refresh=True)
            if status["finished"] or is_output_closed():
                break
            time.sleep(HEARTBEAT_SECONDS.current_value)
    return 0


def _choose_status(output: Location) -> tuple[Callable[[], dict[str, Any]], Callable[[Mapping[str, Any]], Table]]:
    """What reads the status of a run, or of a training, and what shows it.

    Raises:
        OutputError: If the output holds neither.
    """
    from cvbatch.results.summary import run_status

    try:
        log = open_log(output)
    except OutputError:
        if not is_training(output):
            raise
        from cvbatch.training.status import training_status, training_table

        return partial(training_status, output), training_table

    def read() -> dict[str, Any]:
        log.refresh()
        return run_status(output, log)

    return read, status_table


def verify_command(options: argparse.Namespace) -> int:
    """`cvbatch verify`."""
    from cvbatch.results.verify import verify_output

    log = open_log(output_from_options(options), whole=True)
    verdict = verify_output(log.store, log, deep=options.deep)
    if options.json:
        print_json({**asdict(verdict), "proven": verdict.is_proven})
    else:
        rows = [
            ("rows", f"{verdict.committed:,} of {verdict.planned:,} planned, {verdict.errors:,} of them errors"),
            ("files", f"{verdict.files:,}"),
        ]
        rows += [("problem", problem) for problem in verdict.problems[:20]]
        if verdict.strays:
            advice = "the next cvbatch run removes it" if log.store.can_delete() else "remove it, cvbatch may not"
            rows += [("stray file", f"{path}; {advice}") for path in verdict.strays[:20]]
        rows.append(("verdict", "every planned row is there exactly once" if verdict.is_proven else "not proven"))
        Console().print(facts_table(rows, title=options.output))
    return 0 if verdict.is_proven else 1


def models_command(options: argparse.Namespace) -> int:
    """`cvbatch models`."""
    from cvbatch.models.resolve import list_models

    models = [asdict(model) for model in list_models(options.task)]
    if options.json:
        return print_json(models)
    console = Console()
    if options.task and not models:
        console.print(f"no model that has a name does {options.task}: take one by hf: or python:")
        return 0
    for task in [options.task] if options.task else TASKS:
        if of_task := [model for model in models if task in model["tasks"]]:
            console.print(models_table(task, of_task))
    for note in dict.fromkeys(f"{model['model']}: {model['note']}" for model in models if model["note"]):
        console.print(note, highlight=False)
    return 0
