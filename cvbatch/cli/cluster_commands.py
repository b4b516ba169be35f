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

from cvbatch.cli.common import job_from_options, print_json, stop_on_signals
from cvbatch.errors import RunError
from cvbatch.results.console import facts_table, format_duration, summary_table
from cvbatch.results.progress import RunProgress, TerminalProgress
from cvbatch.submit import events
from cvbatch.submit.address import ClusterAddress
from cvbatch.submit.client import JobClient, JobInfo
from cvbatch.submit.jobs import OUTPUT, REQUEST, JobSubmission, exit_code_of_job, find_submitted_job, follow_job
from cvbatch.submit.jobs import stop_job_and_wait as stop_job
from cvbatch.submit.jobs import submit_job as hand_over
from cvbatch.submit.probe import probe_cluster

_PASSED_ON = ("update", "wait", "takeover", "manifest_only", "strict")
"""Options of `cvbatch run` that travel with the job."""


def submit_command(options: argparse.Namespace) -> int:
    """`cvbatch submit`."""
    job, folder = job_from_options(options)
    order = JobSubmission(
        job,
        Path(folder or os.getcwd()),
        [f"--{name.replace('_', '-')}" for name in _PASSED_ON if getattr(options, name)],
        options.retries,
        options.driver_cpus,
        options.driver_memory,
    )
    address = _address_from_options(options)
    client, info, new = hand_over(order, address, anew=options.update)
    already = f"has it already, as {info.status.lower()} job" if not new else "took it as"
    other = (
        ""
        if info.metadata.get(REQUEST) == order.submit_request
        else ", asked for with other options: stop it to use these"
    )
    _print_line(f"{address.url} {already} {info.id}{other}")
    if options.follow:
        return _follow_job(client, info, address, json=options.json)
    if options.json:
        return print_json({"job": info.id, "status": info.status, "new": new, "output": str(job.output.location)})
    _print_line(f"cvbatch logs {info.id} --address {address.url} --follow   shows its progress")
    return exit_code_of_job(info) if info.is_over else 0


def logs_command(options: argparse.Namespace) -> int:
    """`cvbatch logs`."""
    client, info, address = _find_job(options)
    if options.follow and not info.is_over:
        return _follow_job(client, info, address, json=False)
    with _JobFollower(json=False) as listener:
        for line in client.job_log(info.id).splitlines():
            listener.handle_line(line)
    return exit_code_of_job(info) if options.follow else 0


def stop_command(options: argparse.Namespace) -> int:
    """`cvbatch stop`."""
    client, info, address = _find_job(options)
    if not info.is_over:
        info = stop_job(client, info)
    _print_line(f"{info.id} on {address.url}: {info.status.lower()}; what is written is committed")
    return 0


def job_status(options: argparse.Namespace) -> int:
    """`cvbatch status` with an address: what the cluster knows of a job, also where its output cannot be read."""
    address = _address_from_options(options)
    head = probe_cluster(address)
    info = find_submitted_job(JobClient(address), options.output)
    found = {
        **asdict(info),
        "nodes": [{"address": node["node_ip"], **node["resources_total"]} for node in head.nodes],
    }
    if options.json:
        return print_json(found)
    since = info.end_time or time.time()
    rows = [
        ("job", info.id),
        ("state", info.status.lower() + (f", exit code {info.exit_code}" if info.exit_code is not None else "")),
        ("said last", info.message),
    ]
    if info.start_time is not None:
        rows.append(("time", format_duration(since - info.start_time)))
    cpus, gpus = (sum(node["resources_total"].get(kind, 0) for node in head.nodes) for kind in ("CPU", "GPU"))
    rows.append(("cluster", f"{len(head.nodes)} nodes on {head.machine_count} machines, {cpus:g} CPUs, {gpus:g} GPUs"))
    Console().print(facts_table(rows, title=info.metadata.get(OUTPUT)))
    return 0


class _JobFollower:
    """Shows the log of a job as the run itself would show it.

    Args:
        json: Print the result as JSON and nothing else to standard output.
    """

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._terminal = TerminalProgress()

    def __enter__(self) -> _JobFollower:
        self._terminal.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._terminal.__exit__(*error)

    def handle_line(self, line: str) -> None:
        """Take in one line."""
        event = events.parse_event(line)
        if event is None:
            self._terminal.console.print(line, highlight=False, markup=False, soft_wrap=True)
        elif (name := events.event_name(event)) == events.FINISHED:
            self._print_summary(event["summary"])
        elif name == events.DOING:
            self._terminal.on_phase(event["what"])
        else:
            now = RunProgress(event["done"], event["planned"], event["errors"])
            (self._terminal.start_clock if name == events.PLANNED else self._terminal.estimate_now)(now)

    def _print_summary(self, summary: dict[str, Any]) -> None:
        self._terminal.__exit__()
        if self._json:
            print_json(summary)
        else:
            Console().print(summary_table(summary))


def _follow_job(client: JobClient, info: JobInfo, address: ClusterAddress, *, json: bool) -> int:
    left = f"no longer followed; the job goes on. cvbatch stop {info.id} --address {address.url} stops it"
    with stop_on_signals(left), _JobFollower(json=json) as listener:
        ended = follow_job(client, info, listener.handle_line)
    code = exit_code_of_job(ended)
    if code == RunError.exit_code:
        sys.stderr.write(f"cvbatch: {ended.id} {ended.status.lower()}: {ended.message[:300]}\n")
    return code


def _print_line(line: str) -> None:
    Console(stderr=True).print(line, highlight=False, markup=False, soft_wrap=True)


def _address_from_options(options: argparse.Namespace) -> ClusterAddress:
    return ClusterAddress.from_option(options.address, insecure=options.insecure)


def _find_job(options: argparse.Namespace) -> tuple[JobClient, JobInfo, ClusterAddress]:
    address = _address_from_options(options)
    probe_cluster(address)
    client = JobClient(address)
    return client, find_submitted_job(client, options.job), address
