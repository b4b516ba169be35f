"""Submitting a job once, even if it is requested several times, and following it to its end."""

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
"""Metadata key for the digest of a job's request."""
OUTPUT: Final = "cvbatch_output"
"""Metadata key for the output of a job."""
FORMAT_OF_JOB: Final = "cvbatch_format"
"""Metadata key for the format of this metadata."""
_JOB: Final = RecordFormat("job", dict[str, Any])
_POLL_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class PollIntervals:
    """Intervals and time limits of following a job, in seconds."""

    poll: float = _POLL_SECONDS
    """Between two requests for the job's state."""
    settle: float = 10.0
    """Limit for Ray to report the end of a job after its log has ended."""
    broken: float = 60.0
    """Limit for a cluster that does not answer: tunnels and heads come back."""


@dataclass(frozen=True, slots=True)
class JobSubmission:
    """A job and how to run it."""

    job: Job
    modules: Path
    """Folder that `python:` models are imported from."""
    arguments: Sequence[str] = ()
    """Arguments of `cvbatch run`, besides the job file."""
    retries: int = 0
    driver_cpus: float = 0
    driver_memory: int | None = None

    @property
    def submit_request(self) -> str:
        """Digest of the request: equal for equal requests."""
        return _short_digest([self.job.model_dump(mode="json"), list(self.arguments)])


_PYTHON: Final = '"$(command -v python || command -v python3 || echo python)"'
"""For the shell of the head: some machines have only `python3`, and Ray's images have `python`."""


def job_name_of(job: Job) -> str:
    """Name of a job on a cluster: equal for the same work with the same output."""
    return _PREFIX + _short_digest([job.identity(), job.output.location.uri, job.output.endpoint_url])


def submit_job(submission: JobSubmission, address: ClusterAddress, *, anew: bool) -> tuple[JobClient, JobInfo, bool]:
    """Submit a job to a cluster, unless the cluster has it already.

    Args:
        submission: What to run.
        address: The cluster.
        anew: Run the job again even if the same request has succeeded before.

    Returns:
        The client of the cluster, the job, and whether this call started it.

    Raises:
        UsageError: The cluster cannot run the job; nothing was sent.
        RunError: The cluster did not accept the job.
    """
    _check_locations_reachable(submission.job, address, probe_cluster(address))
    client, name = JobClient(address), job_name_of(submission.job)
    previous = latest_attempt(client, name)
    if previous is not None:
        is_same_request = previous.metadata.get(REQUEST) == submission.submit_request
        is_done = previous.status == "SUCCEEDED" and is_same_request and not anew
        if is_done or not previous.is_over:
            return client, previous, False
    job_id = name if previous is None else f"{name}-{_attempt_number(previous.id) + 1}"
    arguments = ["start.py", "--events", f"--retries={submission.retries}", *submission.arguments]
    command = f"{_PYTHON} {shlex.join(arguments)}"
    about = {FORMAT_OF_JOB: str(_JOB), REQUEST: submission.submit_request, OUTPUT: str(submission.job.output.location)}
    with tempfile.TemporaryDirectory(prefix="cvbatch-submit-") as folder:
        build_working_dir(submission.job, Path(folder), submission.modules)
        try:
            client.submit_job(
                job_id, command, Path(folder), about, cpus=submission.driver_cpus, memory=submission.driver_memory
            )
        except RunError:
            latest = latest_attempt(client, name)
            if latest is None or latest.id != job_id:
                raise
            return client, latest, False  # another process has submitted the same job first
    return client, client.get_job(job_id), True


def latest_attempt(client: JobClient, name: str) -> JobInfo | None:
    """The newest attempt at a job; None if the cluster has not seen it."""
    attempts = [job for job in client.list_jobs() if job.id == name or job.id.rpartition("-")[0] == name]
    return max(map(_is_readable_job, attempts), key=lambda job: _attempt_number(job.id), default=None)


def find_submitted_job(client: JobClient, job_or_output: str) -> JobInfo:
    """Find a job by its name, or the newest job that writes to an output.

    Args:
        client: The cluster.
        job_or_output: The id of the job, or its output.

    Raises:
        UsageError: The cluster has no such job.
    """
    own_jobs = [job for job in client.list_jobs() if job.id.startswith(_PREFIX)]
    if matches := [job for job in own_jobs if job.id == job_or_output]:
        return _is_readable_job(matches[0])
    output = None if job_or_output.startswith(_PREFIX) else str(Location.from_uri(job_or_output))
    matches = [job for job in own_jobs if job.metadata.get(OUTPUT) == output]
    if not matches:
        known_jobs = ", ".join(sorted(job.id for job in own_jobs)) or "no jobs of cvbatch"
        raise UsageError(f"{job_or_output} is neither a job of this cluster nor the output of one: it has {known_jobs}")
    return _is_readable_job(max(matches, key=lambda job: (job.start_time or math.inf, _attempt_number(job.id))))


def follow_job(
    client: JobClient, job: JobInfo, handle_line: Callable[[str], None], intervals: PollIntervals = PollIntervals()
) -> JobInfo:
    """Read the log of a job, each line once, until the job ends.

    Args:
        client: The cluster.
        job: The job to follow.
        handle_line: Called with each line, without its line ending.
        intervals: Intervals and time limits.

    Returns:
        The job after its end.

    Raises:
        RunError: The cluster no longer answers.
    """
    lines_handled = 0

    def handle_lines(lines: Iterable[str]) -> None:
        nonlocal lines_handled
        for number, line in enumerate(lines):
            if number >= lines_handled:  # each time the log comes from its start
                handle_line(line)
                lines_handled = number + 1

    while True:
        handle_lines(_split_lines(client.tail_log(job.id)))
        current_job = _wait_until_settled(client, job.id, intervals)
        log = client.job_log(job.id)  # the whole log, if it could not be tailed
        handle_lines(_split_lines([log, "\n" if current_job.is_over and not log.endswith("\n") else ""]))
        if current_job.is_over:
            return current_job


def stop_job_and_wait(client: JobClient, job: JobInfo) -> JobInfo:
    """Stop a job; rows that are written are committed first.

    Raises:
        RunError: The job does not stop.
    """
    client.stop_job(job.id)
    deadline = time.monotonic() + _STOP_SECONDS
    while not (current_job := client.get_job(job.id)).is_over:
        if time.monotonic() > deadline:
            raise RunError(f"{job.id} was asked to stop {_STOP_SECONDS:.0f} s ago and is still {current_job.status}")
        time.sleep(_POLL_SECONDS)
    return current_job


def exit_code_of_job(job: JobInfo) -> int:
    """Exit code of `cvbatch run` in the job; 1 if it had none."""
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
            f"{paths[0]} is a path on this machine, and the cluster is {where}: use a bucket, or add "
            "--shared-filesystem if all of them see the same files under this path"
        )


def _options_with_absolute_paths(job: Job) -> Iterator[str]:
    """Files that options of `python:` models name by absolute paths; other files are sent with the job."""
    texts = (text for model in job.models for text in named_files(model.options))
    return (text for text in texts if os.path.isabs(text) and option_path(text, None) is not None)


def _is_readable_job(job: JobInfo) -> JobInfo:
    """The job, once the format of its metadata is known to be readable."""
    _JOB.check_version({FORMAT: job.metadata[FORMAT_OF_JOB]} if FORMAT_OF_JOB in job.metadata else {}, job.id)
    return job


def _wait_until_settled(client: JobClient, job_id: str, intervals: PollIntervals) -> JobInfo:
    """The state of a job whose log has ended, or whose connection broke."""
    start = time.monotonic()
    while True:
        waited = time.monotonic() - start
        try:
            job = client.get_job(job_id)
            if job.is_over or waited >= intervals.settle:
                return job
        except RunError:
            if waited >= intervals.broken:
                raise
        time.sleep(intervals.poll)


def _split_lines(chunks: Iterable[str]) -> Iterator[str]:
    incomplete_line = ""
    for chunk in chunks:
        *lines, incomplete_line = (incomplete_line + chunk).split("\n")
        yield from lines
    # a line without its end may be incomplete: it follows when the job has ended


def _attempt_number(job_id: str) -> int:
    last = job_id.rpartition("-")[2]
    return int(last) if job_id.count("-") > 1 and last.isdecimal() else 1


def _short_digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
