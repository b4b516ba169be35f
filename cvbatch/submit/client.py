"""Ray's Job API: the only module here that imports ray."""

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
    """What a cluster knows of a job."""

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
        """Whether it will not go on."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")


class JobClient:
    """Jobs of one cluster.

    Args:
        address: Probed.
        quiet_seconds: A connection on which nothing has come for so long is made anew: a broken one may be quiet for
            ever.
        agent_seconds: How long a head is asked again that has just started and has no agent yet.

    Raises:
        RunError: If the cluster does not do what it is asked for; of every method.
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
        """What is known of a job."""
        with _plain_errors(self._address):
            return _to_job_info(self._client.get_job_info(job_id))

    def submit_job(
        self, job_id: str, command: str, folder: Path, about: Mapping[str, str], *, cpus: float, memory: int | None
    ) -> None:
        """Upload a folder and start a command in it.

        Args:
            job_id: New on this cluster.
            command: For a shell.
            folder: Becomes the working directory of the command and of every worker.
            about: Shown with the job.
            cpus: Reserved for the command.
            memory: The same, in bytes.
        """
        patiently = Retrying(
            retry=retry_if_exception(agent_is_missing),
            stop=stop_after_delay(self._agent_seconds),
            wait=wait_fixed(1),
            reraise=True,
        )
        with _plain_errors(self._address):
            patiently(
                self._client.submit_job,
                entrypoint=command,
                submission_id=job_id,
                runtime_env={"working_dir": str(folder)},
                metadata=dict(about),
                entrypoint_num_cpus=cpus or None,
                entrypoint_memory=memory,
            )

    def stop_job(self, job_id: str) -> bool:
        """Ask a job to stop; whether it was running."""
        with _plain_errors(self._address):
            return bool(self._client.stop_job(job_id))

    def job_log(self, job_id: str) -> str:
        """All that a job has said until now."""
        with _plain_errors(self._address):
            return str(self._client.get_job_logs(job_id))

    def tail_log(self, job_id: str) -> Iterator[str]:
        """What a job says, from its beginning until it is over, or the connection breaks or is quiet for long."""
        import aiohttp

        said = self._client.tail_job_logs(job_id)

        async def next_piece() -> str:
            return str(await asyncio.wait_for(anext(said), self._quiet_seconds))

        with asyncio.Runner() as runner:
            while True:
                try:
                    yield runner.run(next_piece())
                except (StopAsyncIteration, RuntimeError, OSError, aiohttp.ClientError):
                    return  # whoever reads asks whether the job is over


@contextlib.contextmanager
def _plain_errors(address: ClusterAddress) -> Iterator[None]:
    """Turn what Ray raises into one line."""
    from ray.exceptions import RayError

    try:
        yield
    except (RayError, RuntimeError, OSError, ValueError) as error:  # those of requests are of the system
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
