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
from cvbatch.results.progress import TerminalProgress
from cvbatch.results.progress_screens import RunProgress
from cvbatch.submit import events
from cvbatch.submit.address import ClusterAddress
from cvbatch.submit.client import JobClient, JobInfo
from cvbatch.submit.jobs import (
    OUTPUT,
    REQUEST,
    JobSubmission,
    exit_code_of_job,
    find_submitted_job,
    follow_job,
    stop_job_and_wait,
    submit_job,
)
from cvbatch.submit.probe import probe_cluster

_PASSED_ON = ("update", "evolve", "wait", "takeover", "manifest_only", "strict")
"""Options of `cvbatch run` that are sent with the job."""


def submit_command(options: argparse.Namespace) -> int:
    """`cvbatch submit`."""
    job, folder = job_from_options(options)
    submission = JobSubmission(
        job,
        Path(folder or os.getcwd()),
        [f"--{name.replace('_', '-')}" for name in _PASSED_ON if getattr(options, name)],
        options.retries,
        options.driver_cpus,
        options.driver_memory,
    )
    address = _address_from_options(options)
    client, info, is_new = submit_job(submission, address, anew=options.update or options.evolve)
    action = "accepted job" if is_new else f"already has this job, {info.status.lower()}, as"
    note = (
        ""
        if info.metadata.get(REQUEST) == submission.submit_request
        else ", submitted with other options: stop it to use these"
    )
    _print_line(f"{address.url} {action} {info.id}{note}")
    if options.follow:
        return _follow_job(client, info, address, json=options.json)
    if options.json:
        return print_json({"job": info.id, "status": info.status, "new": is_new, "output": str(job.output.location)})
    _print_line(f"cvbatch logs {info.id} --address {address.url} --follow   shows its progress")
    return exit_code_of_job(info) if info.is_over else 0


def logs_command(options: argparse.Namespace) -> int:
    """`cvbatch logs`."""
    client, info, address = _find_job(options)
    if options.follow and not info.is_over:
        return _follow_job(client, info, address, json=False)
    with _JobFollower(json=False) as follower:
        for line in client.job_log(info.id).splitlines():
            follower.handle_line(line)
    return exit_code_of_job(info) if options.follow else 0


def stop_command(options: argparse.Namespace) -> int:
    """`cvbatch stop`."""
    client, info, address = _find_job(options)
    if not info.is_over:
        info = stop_job_and_wait(client, info)
    _print_line(f"{info.id} on {address.url}: {info.status.lower()}; rows that are written are committed")
    return 0


def job_status(options: argparse.Namespace) -> int:
    """`cvbatch status` with an address: what the cluster knows about a job, even if its output cannot be read."""
    address = _address_from_options(options)
    head = probe_cluster(address)
    info = find_submitted_job(JobClient(address), options.output)
    status = {
        **asdict(info),
        "nodes": [{"address": node["node_ip"], **node["resources_total"]} for node in head.nodes],
    }
    if options.json:
        return print_json(status)
    end = info.end_time or time.time()
    rows = [
        ("job", info.id),
        ("state", info.status.lower() + (f", exit code {info.exit_code}" if info.exit_code is not None else "")),
        ("last message", info.message),
    ]
    if info.start_time is not None:
        rows.append(("time", format_duration(end - info.start_time)))
    cpus, gpus = (sum(node["resources_total"].get(kind, 0) for node in head.nodes) for kind in ("CPU", "GPU"))
    rows.append(("cluster", f"{len(head.nodes)} nodes on {head.machine_count} machines, {cpus:g} CPUs, {gpus:g} GPUs"))
    Console().print(facts_table(rows, title=info.metadata.get(OUTPUT)))
    return 0


class _JobFollower:
    """Shows the log of a job as `cvbatch run` itself would show it.

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
        """Show one line of the log."""
        event = events.parse_event(line)
        if event is None:
            self._terminal.console.print(line, highlight=False, markup=False, soft_wrap=True)
        elif (name := events.event_name(event)) == events.FINISHED:
            self._print_summary(event["summary"])
        elif name == events.DOING:
            self._terminal.on_phase(event["what"])
        else:
            progress = RunProgress(event["done"], event["planned"], event["errors"])
            (self._terminal.start_clock if name == events.PLANNED else self._terminal.estimate_now)(progress)

    def _print_summary(self, summary: dict[str, Any]) -> None:
        self._terminal.__exit__()
        if self._json:
            print_json(summary)
        else:
            Console().print(summary_table(summary))


def _follow_job(client: JobClient, info: JobInfo, address: ClusterAddress, *, json: bool) -> int:
    detached = f"no longer following; the job continues. cvbatch stop {info.id} --address {address.url} stops it"
    with stop_on_signals(detached), _JobFollower(json=json) as follower:
        finished = follow_job(client, info, follower.handle_line)
    code = exit_code_of_job(finished)
    if code == RunError.exit_code:
        sys.stderr.write(f"cvbatch: {finished.id} {finished.status.lower()}: {finished.message[:300]}\n")
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
