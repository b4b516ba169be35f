"""Commands that talk to a cluster through its dashboard."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from cvbatch.cli.common import interruptible, job_of, write_json
from cvbatch.errors import RunError
from cvbatch.results.console import duration, facts, summary_table
from cvbatch.results.progress import Progress, Terminal
from cvbatch.submit import events
from cvbatch.submit.address import Address
from cvbatch.submit.client import Client, JobInfo
from cvbatch.submit.jobs import OUTPUT, REQUEST, Order, exit_code, find, follow
from cvbatch.submit.jobs import stop as stop_job
from cvbatch.submit.jobs import submit as hand_over
from cvbatch.submit.probe import probe

_PASSED_ON = ("update", "wait", "takeover", "manifest_only", "strict")
"""Options of `cvbatch run` that travel with the job."""


def submit(options: argparse.Namespace) -> int:
    """`cvbatch submit`."""
    job, folder = job_of(options)
    order = Order(
        job,
        Path(folder or os.getcwd()),
        [f"--{name.replace('_', '-')}" for name in _PASSED_ON if getattr(options, name)],
        options.retries,
        options.driver_cpus,
        options.driver_memory,
    )
    address = _address(options)
    client, info, new = hand_over(order, address, anew=options.update)
    already = f"has it already, as {info.status.lower()} job" if not new else "took it as"
    other = (
        "" if info.metadata.get(REQUEST) == order.request else ", asked for with other options: stop it to use these"
    )
    _say(f"{address.url} {already} {info.id}{other}")
    if options.follow:
        return _follow(client, info, address, json=options.json)
    if options.json:
        return write_json({"job": info.id, "status": info.status, "new": new, "output": str(job.output.place)})
    _say(f"cvbatch logs {info.id} --address {address.url} --follow   shows its progress")
    return exit_code(info) if info.over else 0


def logs(options: argparse.Namespace) -> int:
    """`cvbatch logs`."""
    client, info, address = _found(options)
    if options.follow and not info.over:
        return _follow(client, info, address, json=False)
    with _Listener(json=False) as listener:
        for line in client.log(info.id).splitlines():
            listener.heard(line)
    return exit_code(info) if options.follow else 0


def stop(options: argparse.Namespace) -> int:
    """`cvbatch stop`."""
    client, info, address = _found(options)
    if not info.over:
        info = stop_job(client, info)
    _say(f"{info.id} on {address.url}: {info.status.lower()}; what is written is committed")
    return 0


def job_status(options: argparse.Namespace) -> int:
    """`cvbatch status` with an address: what the cluster knows of a job, also where its output cannot be read."""
    address = _address(options)
    head = probe(address)
    info = find(Client(address), options.output)
    found = {
        **asdict(info),
        "nodes": [{"address": node["node_ip"], **node["resources_total"]} for node in head.nodes],
    }
    if options.json:
        return write_json(found)
    since = info.end_time or time.time()
    rows = [
        ("job", info.id),
        ("state", info.status.lower() + (f", exit code {info.exit_code}" if info.exit_code is not None else "")),
        ("said last", info.message),
    ]
    if info.start_time is not None:
        rows.append(("time", duration(since - info.start_time)))
    cpus, gpus = (sum(node["resources_total"].get(kind, 0) for node in head.nodes) for kind in ("CPU", "GPU"))
    rows.append(("cluster", f"{len(head.nodes)} nodes on {head.machines} machines, {cpus:g} CPUs, {gpus:g} GPUs"))
    Console().print(facts(rows, title=info.metadata.get(OUTPUT)))
    return 0


class _Listener:
    """Shows the log of a job as the run itself would show it.

    Args:
        json: Print the result as JSON and nothing else to standard output.
    """

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._terminal = Terminal()

    def __enter__(self) -> _Listener:
        self._terminal.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._terminal.__exit__(*error)

    def heard(self, line: str) -> None:
        """Take in one line."""
        event = events.parse(line)
        if event is None:
            self._terminal.console.print(line, highlight=False, markup=False, soft_wrap=True)
        elif (name := events.name_of(event)) == events.FINISHED:
            self._sum_up(event["summary"])
        elif name == events.DOING:
            self._terminal.doing(event["what"])
        else:
            now = Progress(event["done"], event["planned"], event["errors"])
            (self._terminal.begin if name == events.PLANNED else self._terminal.advance)(now)

    def _sum_up(self, summary: dict[str, Any]) -> None:
        self._terminal.__exit__()
        if self._json:
            write_json(summary)
        else:
            Console().print(summary_table(summary))


def _follow(client: Client, info: JobInfo, address: Address, *, json: bool) -> int:
    left = f"no longer followed; the job goes on. cvbatch stop {info.id} --address {address.url} stops it"
    with interruptible(left), _Listener(json=json) as listener:
        ended = follow(client, info, listener.heard)
    code = exit_code(ended)
    if code == RunError.exit_code:
        sys.stderr.write(f"cvbatch: {ended.id} {ended.status.lower()}: {ended.message[:300]}\n")
    return code


def _say(line: str) -> None:
    Console(stderr=True).print(line, highlight=False, markup=False, soft_wrap=True)


def _address(options: argparse.Namespace) -> Address:
    return Address.of(options.address, insecure=options.insecure)


def _found(options: argparse.Namespace) -> tuple[Client, JobInfo, Address]:
    address = _address(options)
    probe(address)
    client = Client(address)
    return client, find(client, options.job), address
