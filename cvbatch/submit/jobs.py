"""Submitting a job once, however often it is asked for, and following it to its end."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cvbatch.config.job import Job
from cvbatch.errors import RunError, UsageError
from cvbatch.models.own_files import named_files, option_path
from cvbatch.storage.location import Location
from cvbatch.submit.address import ClusterAddress
from cvbatch.submit.client import JobClient, JobInfo
from cvbatch.submit.package import build_working_dir
from cvbatch.submit.probe import ClusterHead, probe_cluster
from cvbatch.system.formats import FORMAT, RecordFormat

_PREFIX: Final = "cvbatch-"
REQUEST: Final = "cvbatch_request"
"""Key under which a cluster keeps which request a job came from."""
OUTPUT: Final = "cvbatch_output"
"""Key under which a cluster keeps where a job writes to."""
FORMAT_OF_JOB: Final = "cvbatch_format"
"""Key under which a cluster keeps the format of these."""
_JOB: Final = RecordFormat("job", dict[str, Any])
_POLL_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class PollIntervals:
    """How a job is asked about, in seconds."""

    poll: float = _POLL_SECONDS
    """Between two questions."""
    settle: float = 10.0
    """Ray tells that a job is over a moment after its log has ended."""
    broken: float = 60.0
    """How long a job is followed that nobody can be asked about: tunnels and heads come back."""


@dataclass(frozen=True, slots=True)
class JobSubmission:
    """A job together with how it is to be run."""

    job: Job
    modules: Path
    """Where `python:` models are imported from."""
    arguments: Sequence[str] = ()
    """Of `cvbatch run`, besides the job file."""
    retries: int = 0
    driver_cpus: float = 0
    driver_memory: int | None = None

    @property
    def submit_request(self) -> str:
        """The same for requests that ask for exactly the same."""
        return _short_digest([self.job.model_dump(mode="json"), list(self.arguments)])


_PYTHON: Final = '"$(command -v python || command -v python3 || echo python)"'
"""For the shell of the head: what Ray's images call `python` some machines have as `python3` alone."""


def job_name_of(job: Job) -> str:
    """What a cluster calls a job: the same for the same work at the same output."""
    return _PREFIX + _short_digest([job.identity(), job.output.location.uri, job.output.endpoint_url])


def submit_job(order: JobSubmission, address: ClusterAddress, *, anew: bool) -> tuple[JobClient, JobInfo, bool]:
    """Hand a job to a cluster, unless it has it already.

    Args:
        order: What to run.
        address: Checked.
        anew: Start again even if the same request has succeeded before.

    Returns:
        The cluster, the job, and whether it was started now.

    Raises:
        UsageError: If the cluster cannot be used for it; nothing was sent.
        RunError: If the cluster did not take it.
    """
    _check_locations_reachable(order.job, address, probe_cluster(address))
    client, name = JobClient(address), job_name_of(order.job)
    before = latest_attempt(client, name)
    if before is not None:
        finished = before.status == "SUCCEEDED" and before.metadata.get(REQUEST) == order.submit_request and not anew
        if finished or not before.is_over:
            return client, before, False
    job_id = name if before is None else f"{name}-{_attempt_number(before.id) + 1}"
    command = f"{_PYTHON} {shlex.join(['start.py', '--events', f'--retries={order.retries}', *order.arguments])}"
    about = {FORMAT_OF_JOB: str(_JOB), REQUEST: order.submit_request, OUTPUT: str(order.job.output.location)}
    with tempfile.TemporaryDirectory(prefix="cvbatch-submit-") as folder:
        build_working_dir(order.job, Path(folder), order.modules)
        try:
            client.submit_job(job_id, command, Path(folder), about, cpus=order.driver_cpus, memory=order.driver_memory)
        except RunError:
            now = latest_attempt(client, name)
            if now is None or now.id != job_id:
                raise
            return client, now, False  # somebody else was faster with the same
    return client, client.get_job(job_id), True


def latest_attempt(client: JobClient, name: str) -> JobInfo | None:
    """The newest attempt at a job; None if the cluster has not seen it."""
    found = [job for job in client.list_jobs() if job.id == name or job.id.rpartition("-")[0] == name]
    return max(map(_is_readable_job, found), key=lambda job: _attempt_number(job.id), default=None)


def find_submitted_job(client: JobClient, wanted: str) -> JobInfo:
    """The job of a name, or the newest one that writes to an output.

    Args:
        client: Of the cluster.
        wanted: What `submit_job` called the job, or its output.

    Raises:
        UsageError: If the cluster knows no such job.
    """
    ours = [job for job in client.list_jobs() if job.id.startswith(_PREFIX)]
    if named := [job for job in ours if job.id == wanted]:
        return _is_readable_job(named[0])
    output = None if wanted.startswith(_PREFIX) else str(Location.from_uri(wanted))
    found = [job for job in ours if job.metadata.get(OUTPUT) == output]
    if not found:
        there = ", ".join(sorted(job.id for job in ours)) or "no jobs of ours"
        raise UsageError(f"{wanted} is neither a job of this cluster nor the output of one: it has {there}")
    return _is_readable_job(max(found, key=lambda job: (job.start_time or math.inf, _attempt_number(job.id))))


def follow_job(
    client: JobClient, job: JobInfo, handle_line: Callable[[str], None], patience: PollIntervals = PollIntervals()
) -> JobInfo:
    """Hear every line that a job says, once, until it is over.

    Args:
        client: Of the cluster.
        job: To follow.
        handle_line: Called with each line, without its end.
        patience: How long to wait for what.

    Returns:
        How it ended.

    Raises:
        RunError: If the cluster cannot be asked any more.
    """
    known = 0

    def handle_lines(lines: Iterable[str]) -> None:
        nonlocal known
        for number, line in enumerate(lines):
            if number >= known:  # each time it begins at the beginning
                handle_line(line)
                known = number + 1

    while True:
        handle_lines(_split_lines(client.tail_log(job.id)))
        now = _wait_until_settled(client, job.id, patience)
        log = client.job_log(job.id)  # all there is, where nothing can be tailed
        handle_lines(_split_lines([log, "\n" if now.is_over and not log.endswith("\n") else ""]))
        if now.is_over:
            return now


def stop_job_and_wait(client: JobClient, job: JobInfo) -> JobInfo:
    """Stop a job: what is written is committed.

    Raises:
        RunError: If it does not stop.
    """
    client.stop_job(job.id)
    deadline = time.monotonic() + _STOP_SECONDS
    while not (now := client.get_job(job.id)).is_over:
        if time.monotonic() > deadline:
            raise RunError(f"{job.id} was asked to stop {_STOP_SECONDS:.0f} s ago and is still {now.status}")
        time.sleep(_POLL_SECONDS)
    return now


def exit_code_of_job(job: JobInfo) -> int:
    """That of `cvbatch run`; 1 where it did not come to one."""
    if job.status == "SUCCEEDED":
        return 0
    return job.exit_code if job.exit_code in (1, 2, 3) else 1


def _check_locations_reachable(job: Job, address: ClusterAddress, head: ClusterHead) -> None:
    paths = [*job.local_paths(), *job.local_files(), *_options_with_absolute_paths(job)]
    if not paths or job.compute.shared_filesystem:
        return
    if head.machine_count > 1 or not address.is_loopback:
        where = f"{head.machine_count} machines" if head.machine_count > 1 else "another machine"
        raise UsageError(
            f"{paths[0]} is a path on this machine, and the cluster is {where}: use a bucket, or say "
            "--shared-filesystem if all of them see the same files under this path"
        )


def _options_with_absolute_paths(job: Job) -> Iterator[str]:
    """Files that options of own models name by absolute paths; others travel with the job."""
    texts = (text for model in job.models for text in named_files(model.options))
    return (text for text in texts if os.path.isabs(text) and option_path(text, None) is not None)


def _is_readable_job(job: JobInfo) -> JobInfo:
    """A job of which this version can read what the cluster keeps of it."""
    _JOB.check_version({FORMAT: job.metadata[FORMAT_OF_JOB]} if FORMAT_OF_JOB in job.metadata else {}, job.id)
    return job


def _wait_until_settled(client: JobClient, job_id: str, patience: PollIntervals) -> JobInfo:
    """What is known of a job whose log has ended, or whose connection broke."""
    began = time.monotonic()
    while True:
        waited = time.monotonic() - began
        try:
            now = client.get_job(job_id)
            if now.is_over or waited >= patience.settle:
                return now
        except RunError:
            if waited >= patience.broken:
                raise
        time.sleep(patience.poll)


def _split_lines(pieces: Iterable[str]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        yield from whole
    # a line without an end may be half of one: it is taken once the job is over


def _attempt_number(job_id: str) -> int:
    last = job_id.rpartition("-")[2]
    return int(last) if job_id.count("-") > 1 and last.isdecimal() else 1


def _short_digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
