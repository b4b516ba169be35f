"""Ray's Job API; the only module of `submit` that imports ray."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from cvbatch.errors import RunError
from cvbatch.submit.address import ClusterAddress
from cvbatch.system.ray_compat import ADDRESS_OVERRIDES, agent_is_missing, quiet_job_client

_QUIET_SECONDS: Final = 60.0
_AGENT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class JobInfo:
    """What a cluster reports about a job."""

    id: str
    status: str
    """`PENDING`, `RUNNING`, `STOPPED`, `SUCCEEDED` or `FAILED`."""
    message: str
    exit_code: int | None
    metadata: Mapping[str, str]
    start_time: float | None
    end_time: float | None

    @property
    def is_over(self) -> bool:
        """Whether the job has ended."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")


class JobClient:
    """Jobs of one cluster.

    Args:
        address: A cluster that `probe_cluster` accepted.
        quiet_seconds: A log connection that is silent for this many seconds is replaced; a broken one may stay silent
            forever.
        agent_seconds: Seconds for which a submission is repeated while a new head has no agent yet.

    Raises:
        RunError: A request to the cluster failed. Every method raises this.
    """

    def __init__(
        self, address: ClusterAddress, *, quiet_seconds: float = _QUIET_SECONDS, agent_seconds: float = _AGENT_SECONDS
    ) -> None:
        self._quiet_seconds, self._agent_seconds = quiet_seconds, agent_seconds
        for name in ADDRESS_OVERRIDES:
            os.environ.pop(name, None)
        os.environ.setdefault("RAY_AUTH_MODE", "token" if address.token else "disabled")
        with _plain_errors(address):
            from ray.job_submission import JobSubmissionClient

            quiet_job_client()
            self._client: Any = JobSubmissionClient(address.url, headers=address.request_headers)
        self._address = address

    def list_jobs(self) -> list[JobInfo]:
        """All jobs that were submitted to the cluster."""
        with _plain_errors(self._address):
            return [_to_job_info(details) for details in self._client.list_jobs() if details.submission_id]

    def get_job(self, job_id: str) -> JobInfo:
        """What the cluster reports about a job."""
        with _plain_errors(self._address):
            return _to_job_info(self._client.get_job_info(job_id))

    def submit_job(
        self, job_id: str, command: str, folder: Path, about: Mapping[str, str], *, cpus: float, memory: int | None
    ) -> None:
        """Upload a folder and start a command in it.

        Args:
            job_id: An id that is new on this cluster.
            command: A shell command.
            folder: Working directory of the command and of every worker.
            about: Metadata that Ray shows with the job.
            cpus: CPUs to reserve for the command.
            memory: Bytes of memory to reserve for it.
        """
        retry = Retrying(
            retry=retry_if_exception(agent_is_missing),
            stop=stop_after_delay(self._agent_seconds),
            wait=wait_fixed(1),
            reraise=True,
        )
        with _plain_errors(self._address):
            retry(
                self._client.submit_job,
                entrypoint=command,
                submission_id=job_id,
                runtime_env={"working_dir": str(folder)},
                metadata=dict(about),
                entrypoint_num_cpus=cpus or None,
                entrypoint_memory=memory,
            )

    def stop_job(self, job_id: str) -> bool:
        """Ask a job to stop; return whether it was running."""
        with _plain_errors(self._address):
            return bool(self._client.stop_job(job_id))

    def job_log(self, job_id: str) -> str:
        """The log of a job up to now."""
        with _plain_errors(self._address):
            return str(self._client.get_job_logs(job_id))

    def tail_log(self, job_id: str) -> Iterator[str]:
        """The log of a job from its start, until the job ends, or the connection breaks or is silent for too long."""
        import aiohttp

        chunks = self._client.tail_job_logs(job_id)

        async def next_chunk() -> str:
            return str(await asyncio.wait_for(anext(chunks), self._quiet_seconds))

        with asyncio.Runner() as runner:
            while True:
                try:
                    yield runner.run(next_chunk())
                except (StopAsyncIteration, RuntimeError, OSError, aiohttp.ClientError):
                    return  # the caller checks whether the job has ended


@contextlib.contextmanager
def _plain_errors(address: ClusterAddress) -> Iterator[None]:
    """Turn the errors of Ray into one line."""
    from ray.exceptions import RayError

    try:
        yield
    except (RayError, RuntimeError, OSError, ValueError) as error:  # errors of requests are OSErrors
        raise RunError(f"{address.url}: {' '.join(str(error).split())[:300]}") from None


def _to_job_info(details: Any) -> JobInfo:
    return JobInfo(
        id=details.submission_id,
        status=str(details.status.value),
        message=" ".join((details.message or "").split()),
        exit_code=details.driver_exit_code,
        metadata=details.metadata or {},
        start_time=details.start_time and details.start_time / 1000,
        end_time=details.end_time and details.end_time / 1000,
    )
