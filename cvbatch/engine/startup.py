"""Start Ray without console output, or attach to the cluster that `RAY_ADDRESS` names."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Final

from cvbatch.engine.address import ON_THIS_MACHINE, cluster_address, no_cluster_error, wait_for_head
from cvbatch.engine.host_checks import check_host, ray_temporary_folder
from cvbatch.engine.nodes import Cluster, current_cluster
from cvbatch.errors import CvbatchError, RunError, UsageError, try_call
from cvbatch.system import ray_compat
from cvbatch.system.control_group import has_group_oom_kill, memory_limit, usable_cores
from cvbatch.system.versions import describe_unmet_requirement

START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0
"""Seconds to wait for Ray to stop; its remaining processes end with this process."""
_LONGEST_SAID: Final = 300


class RayStartup:
    """Starts Ray in a background thread while the plan is written.

    Args:
        pythonpath: Folder of own modules, if any; the workers of a cluster then also get this process's PYTHONPATH.
        timeout: Seconds after which the start counts as failed.
        store_bytes: Size of a local head's object store; None leaves it to Ray.

    Raises:
        UsageError: If no usable Ray is installed, or it cannot start on this machine.
    """

    def __init__(
        self, pythonpath: str | None = None, timeout: float = START_SECONDS, store_bytes: int | None = None
    ) -> None:
        self._failure: Exception | None = None
        self._cluster: Cluster | None = None
        self._settled = threading.Event()
        self._stop_requested = threading.Event()
        if describe_unmet_requirement("ray"):
            raise UsageError(f"{describe_unmet_requirement('ray')}: install it with pip")
        self._address, self._store_bytes = cluster_address(), store_bytes
        if self._address is None:
            check_host()
        self._timeout, self._started = timeout, time.monotonic()
        # set before the first import of ray, which reads it once; this thread may import it before the other one does
        path = _set_ray_environment(self._address, pythonpath)
        self._thread = threading.Thread(target=self._start_in_thread, args=(path,), name="ray-start", daemon=True)
        self._thread.start()

    def wait_until_ready(self) -> Cluster:
        """Wait until Ray runs; signals are handled during the wait.

        Raises:
            UsageError: If Ray cannot run on this machine.
            RunError: If Ray does not start in time, or fails.
        """
        if not self._settled.wait(max(0.0, self._started + self._timeout - time.monotonic())):
            raise RunError(_start_timeout_message(self._address, self._timeout))
        if isinstance(self._failure, CvbatchError):
            raise self._failure
        if self._cluster is None:
            raise _explain_start_failure(self._failure, self._address)
        return self._cluster

    def stop_ray(self) -> None:
        """Stop Ray, or detach from the cluster; a Ray that is still starting ends with this process."""
        self._stop_requested.set()
        if self._settled.is_set():
            self._thread.join(_STOP_SECONDS)

    def _start_in_thread(self, pythonpath: str) -> None:
        # inherited by Ray's processes: when the terminal closes, only the driver reacts, and commits with their help
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        with contextlib.ExitStack() as stack:
            result = try_call(lambda: self._connect_to_ray(pythonpath, stack))
            if isinstance(result, Cluster):
                self._cluster = result
            else:
                self._failure = result  # raised by `wait_until_ready`
            self._settled.set()
            # Ray's processes die with the thread that started them (PR_SET_PDEATHSIG), so it must stay alive
            self._stop_requested.wait()

    def _connect_to_ray(self, pythonpath: str, stack: contextlib.ExitStack) -> Cluster:
        folder = None
        if self._address is None:
            folder = stack.enter_context(ray_temporary_folder())
        else:
            wait_for_head(self._address, self._timeout)
        with _without_warnings():
            import ray

            stack.callback(ray.shutdown)
            ray.init(
                address=self._address or "local",
                num_cpus=None if self._address else max(4, 2 * usable_cores()),
                object_store_memory=None if self._address else self._store_bytes,
                include_dashboard=None if self._address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {"PYTHONPATH": pythonpath}} if pythonpath else None,
                job_config=ray_compat.worker_job_config(),
                **ray_compat.temporary_folder(folder),
            )
            if self._address is None:
                # fails if no worker can start; a head without workers would wait without end
                ray.get(ray.remote(num_cpus=0)(_do_nothing).remote())
        return current_cluster(local=self._address is None)


def _do_nothing() -> None:
    """Task of the first worker: it proves that a worker starts and finds this package."""


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _set_ray_environment(address: str | None, pythonpath: str | None) -> str:
    """Set the environment of Ray and its processes; return the PYTHONPATH of a cluster's workers.

    In a container with a memory limit Ray's memory monitor is off: the kernel counts the processes that it kills, and
    Ray does not.
    """
    for name, value in ray_compat.CLUSTER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address is not None:
        return os.environ.get("PYTHONPATH", "") if pythonpath else ""
    monitor = ray_compat.NO_MEMORY_MONITOR if memory_limit() is not None and not has_group_oom_kill() else {}
    token = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name, value in {**ray_compat.OWN_HEAD_ENVIRONMENT, **monitor, **token}.items():
        os.environ.setdefault(name, value)
    return ""


def _start_timeout_message(address: str | None, timeout: float) -> str:
    """Return the error message for a Ray that did not start in time."""
    advice = "compute.ray_start_timeout waits longer"
    if address is not None:
        return f"{no_cluster_error(address, f'Ray was not available within {timeout:.0f} s')}; {advice}"
    return (
        f"Ray did not start on this machine within {timeout:.0f} s; check that the machine is not overloaded or short "
        f"of memory. Ray's log files are in {ray_compat.log_folder()}, and {advice}"
    )


def _explain_start_failure(failure: Exception | None, address: str | None) -> CvbatchError:
    """Return the failure of Ray as a one-line error."""
    message = " ".join(str(failure).split())[:_LONGEST_SAID]
    if ray_compat.is_other_version(message):
        return UsageError(f"{message}; use the cluster's versions on this machine, or cvbatch submit")
    if address is not None and isinstance(failure, ConnectionError):
        return RunError(no_cluster_error(address, "none was found" if address == ON_THIS_MACHINE else message))
    return RunError(f"Ray did not start: {message}")
