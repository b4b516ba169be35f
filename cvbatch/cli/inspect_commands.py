"""Commands that look at runs and models, and change nothing."""

from __future__ import annotations

import argparse
import contextlib
import time
from dataclasses import asdict

from rich.console import Console
from rich.live import Live

from cvbatch.cli.cluster_commands import job_status
from cvbatch.cli.common import interruptible, log_of, output_of, write_json
from cvbatch.errors import UsageError
from cvbatch.output.lease import HEARTBEAT_SECONDS
from cvbatch.results.console import facts, models_table, status_table
from cvbatch.system.standard_streams import reader_gone
from cvbatch.tasks import TASKS


def status(options: argparse.Namespace) -> int:
    """`cvbatch status`."""
    from cvbatch.results.summary import status as status_of

    if options.address is not None:
        if options.watch or options.storage:
            raise UsageError("--address: asks the cluster once, so --watch and --storage are not for it; leave one out")
        return job_status(options)
    output = output_of(options)
    log = log_of(output)
    if options.json:
        return write_json(status_of(output, log))
    console = Console()
    if not options.watch:
        console.print(status_table(status_of(output, log)))
        return 0
    with interruptible(), contextlib.suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            log.read()
            found = status_of(output, log)
            live.update(status_table(found), refresh=True)
            if found["finished"] or reader_gone():
                break
            time.sleep(HEARTBEAT_SECONDS.value)
    return 0


def verify(options: argparse.Namespace) -> int:
    """`cvbatch verify`."""
    from cvbatch.results.verify import verify as prove

    log = log_of(output_of(options), whole=True)
    verdict = prove(log.store, log, deep=options.deep)
    if options.json:
        write_json({**asdict(verdict), "proven": verdict.proven})
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
    from cvbatch.models.resolve import list_models

    found = [asdict(model) for model in list_models(options.task)]
    if options.json:
        return write_json(found)
    console = Console()
    for task in [options.task] if options.task else TASKS:
        console.print(models_table(task, [model for model in found if task in model["tasks"]]))
    for note in dict.fromkeys(f"{model['model']}: {model['note']}" for model in found if model["note"]):
        console.print(note, highlight=False)
    return 0
