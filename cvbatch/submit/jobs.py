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
from cvbatch.models.own_files import named, option_path
from cvbatch.storage.location import Place
from cvbatch.submit.address import Address
from cvbatch.submit.client import Client, JobInfo
from cvbatch.submit.package import pack
from cvbatch.submit.probe import Head, probe
from cvbatch.system.formats import FORMAT, Format

_PREFIX: Final = "cvbatch-"
REQUEST: Final = "cvbatch_request"
"""Key under which a cluster keeps which request a job came from."""
OUTPUT: Final = "cvbatch_output"
"""Key under which a cluster keeps where a job writes to."""
FORMAT_OF_JOB: Final = "cvbatch_format"
"""Key under which a cluster keeps the format of these."""
_JOB: Final = Format("job", dict[str, Any])
_POLL_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How a job is asked about, in seconds."""

    poll: float = _POLL_SECONDS
    """Between two questions."""
    settle: float = 10.0
    """Ray tells that a job is over a moment after its log has ended."""
    broken: float = 60.0
    """How long a job is followed that nobody can be asked about: tunnels and heads come back."""


@dataclass(frozen=True, slots=True)
class Order:
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
    def request(self) -> str:
        """The same for requests that ask for exactly the same."""
        return _digest([self.job.model_dump(mode="json"), list(self.arguments)])


_PYTHON: Final = '"$(command -v python || command -v python3 || echo python)"'
"""For the shell of the head: what Ray's images call `python` some machines have as `python3` alone."""


def name_of(job: Job) -> str:
    """What a cluster calls a job: the same for the same work at the same output."""
    return _PREFIX + _digest([job.identity(), job.output.place.uri, job.output.endpoint_url])


def submit(order: Order, address: Address, *, anew: bool) -> tuple[Client, JobInfo, bool]:
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
    _check_reach(order.job, address, probe(address))
    client, name = Client(address), name_of(order.job)
    before = latest(client, name)
    if before is not None:
        finished = before.status == "SUCCEEDED" and before.metadata.get(REQUEST) == order.request and not anew
        if finished or not before.over:
            return client, before, False
    job_id = name if before is None else f"{name}-{_number(before.id) + 1}"
    command = f"{_PYTHON} {shlex.join(['start.py', '--events', f'--retries={order.retries}', *order.arguments])}"
    about = {FORMAT_OF_JOB: str(_JOB), REQUEST: order.request, OUTPUT: str(order.job.output.place)}
    with tempfile.TemporaryDirectory(prefix="cvbatch-submit-") as folder:
        pack(order.job, Path(folder), order.modules)
        try:
            client.submit(job_id, command, Path(folder), about, cpus=order.driver_cpus, memory=order.driver_memory)
        except RunError:
            now = latest(client, name)
            if now is None or now.id != job_id:
                raise
            return client, now, False  # somebody else was faster with the same
    return client, client.job(job_id), True


def latest(client: Client, name: str) -> JobInfo | None:
    """The newest attempt at a job; None if the cluster has not seen it."""
    found = [job for job in client.jobs() if job.id == name or job.id.rpartition("-")[0] == name]
    return max(map(_known, found), key=lambda job: _number(job.id), default=None)


def find(client: Client, wanted: str) -> JobInfo:
    """The job of a name, or the newest one that writes to an output.

    Args:
        client: Of the cluster.
        wanted: What `submit` called the job, or its output.

    Raises:
        UsageError: If the cluster knows no such job.
    """
    ours = [job for job in client.jobs() if job.id.startswith(_PREFIX)]
    if named := [job for job in ours if job.id == wanted]:
        return _known(named[0])
    output = None if wanted.startswith(_PREFIX) else str(Place.of(wanted))
    found = [job for job in ours if job.metadata.get(OUTPUT) == output]
    if not found:
        there = ", ".join(sorted(job.id for job in ours)) or "no jobs of ours"
        raise UsageError(f"{wanted} is neither a job of this cluster nor the output of one: it has {there}")
    return _known(max(found, key=lambda job: (job.start_time or math.inf, _number(job.id))))


def follow(client: Client, job: JobInfo, heard: Callable[[str], None], patience: Patience = Patience()) -> JobInfo:
    """Hear every line that a job says, once, until it is over.

    Args:
        client: Of the cluster.
        job: To follow.
        heard: Called with each line, without its end.
        patience: How long to wait for what.

    Returns:
        How it ended.

    Raises:
        RunError: If the cluster cannot be asked any more.
    """
    known = 0

    def hear(lines: Iterable[str]) -> None:
        nonlocal known
        for number, line in enumerate(lines):
            if number >= known:  # each time it begins at the beginning
                heard(line)
                known = number + 1

    while True:
        hear(_lines(client.tail(job.id)))
        now = _settled(client, job.id, patience)
        log = client.log(job.id)  # all there is, where nothing can be tailed
        hear(_lines([log, "\n" if now.over and not log.endswith("\n") else ""]))
        if now.over:
            return now


def stop(client: Client, job: JobInfo) -> JobInfo:
    """Stop a job: what is written is committed.

    Raises:
        RunError: If it does not stop.
    """
    client.stop(job.id)
    deadline = time.monotonic() + _STOP_SECONDS
    while not (now := client.job(job.id)).over:
        if time.monotonic() > deadline:
            raise RunError(f"{job.id} was asked to stop {_STOP_SECONDS:.0f} s ago and is still {now.status}")
        time.sleep(_POLL_SECONDS)
    return now


def exit_code(job: JobInfo) -> int:
    """That of `cvbatch run`; 1 where it did not come to one."""
    if job.status == "SUCCEEDED":
        return 0
    return job.exit_code if job.exit_code in (1, 2, 3) else 1


def _check_reach(job: Job, address: Address, head: Head) -> None:
    paths = [*job.local_paths(), *job.local_files(), *_absolute_options(job)]
    if not paths or job.compute.shared_filesystem:
        return
    if head.machines > 1 or not address.loopback:
        where = f"{head.machines} machines" if head.machines > 1 else "another machine"
        raise UsageError(
            f"{paths[0]} is a path on this machine, and the cluster is {where}: use a bucket, or say "
            "--shared-filesystem if all of them see the same files under this path"
        )


def _absolute_options(job: Job) -> Iterator[str]:
    """Files that options of own models name by absolute paths; others travel with the job."""
    texts = (text for model in job.models for text in named(model.options))
    return (text for text in texts if os.path.isabs(text) and option_path(text, None) is not None)


def _known(job: JobInfo) -> JobInfo:
    """A job of which this version can read what the cluster keeps of it."""
    _JOB.check({FORMAT: job.metadata[FORMAT_OF_JOB]} if FORMAT_OF_JOB in job.metadata else {}, job.id)
    return job


def _settled(client: Client, job_id: str, patience: Patience) -> JobInfo:
    """What is known of a job whose log has ended, or whose connection broke."""
    began = time.monotonic()
    while True:
        waited = time.monotonic() - began
        try:
            now = client.job(job_id)
            if now.over or waited >= patience.settle:
                return now
        except RunError:
            if waited >= patience.broken:
                raise
        time.sleep(patience.poll)


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        yield from whole
    # a line without an end may be half of one: it is taken once the job is over


def _number(job_id: str) -> int:
    last = job_id.rpartition("-")[2]
    return int(last) if job_id.count("-") > 1 and last.isdecimal() else 1


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
