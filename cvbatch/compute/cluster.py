"""Starting Ray quietly, or attaching to the cluster that `RAY_ADDRESS` names."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import warnings
from collections.abc import Iterator

from cvbatch.compute.nodes import Cluster, look
from cvbatch.errors import CvbatchError, RunError, UsageError, caught
from cvbatch.versions import unmet

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_DOWNSTREAM_CAPACITY_OBJECT_STORE_BUDGET_UTIL_THRESHOLD": "0",  # `sizing.READY` holds from the start
    "RAY_task_oom_retries": "3",  # by default for ever
}
# a head of our own is for this run alone: on loopback, which Ray does where it knows of no clusters, and without the
# figures about itself that nobody could ask for, as only child processes know its token
_OURS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_worker_niceness": "0",  # by default 15, which leaves decoding nothing to give way to
    "RAY_enable_metrics_collection": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_AUTH_MODE": "token",
}


class Startup:
    """Ray, starting in the background while the plan is written."""

    def __init__(self, pythonpath: str | None = None) -> None:
        self._failure: Exception | None = None
        self._cluster: Cluster | None = None
        self._settled = threading.Event()
        self._over = threading.Event()
        # before anybody imports ray, which reads it once; this thread may do so while the other is still on its way
        path = _set_environment(pythonpath)
        self._thread = threading.Thread(target=self._start, args=(path,), name="ray-start", daemon=True)
        self._thread.start()

    def ready(self) -> Cluster:
        """Wait until Ray runs.

        Raises:
            UsageError: If there is no Ray that we could use.
            RunError: If it does not start.
        """
        self._settled.wait()
        if isinstance(self._failure, CvbatchError):
            raise self._failure
        if self._cluster is None:
            raise RunError(f"Ray did not start: {' '.join(str(self._failure).split())[:300]}")
        return self._cluster

    def stop(self) -> None:
        """Stop Ray, or detach from the cluster."""
        self._settled.wait()
        if self._cluster is not None:
            import ray

            ray.shutdown()
        self._over.set()
        self._thread.join()

    def _start(self, pythonpath: str) -> None:
        found = caught(lambda: _connect(pythonpath))
        if isinstance(found, Cluster):
            self._cluster = found
        else:
            self._failure = found  # whatever it is: `ready` waits
        self._settled.set()
        # Ray's processes die with the thread that started them (PR_SET_PDEATHSIG), so it has to stay
        self._over.wait()


def local_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _set_environment(pythonpath: str | None) -> str:
    """Tell Ray and its processes how to run; returns the folders that a cluster's workers are to import from."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    path = os.pathsep.join(filter(None, (pythonpath, os.environ.get("PYTHONPATH"))))
    if "RAY_ADDRESS" in os.environ:
        return path if pythonpath else ""
    for name, value in {**_OURS, "RAY_AUTH_TOKEN": secrets.token_hex(32)}.items():
        os.environ.setdefault(name, value)
    if path:
        # inherited by the workers that Ray starts beforehand; a runtime environment would need others
        os.environ["PYTHONPATH"] = path
    return ""


def _connect(pythonpath: str) -> Cluster:
    if unmet("ray"):
        raise UsageError(f"{unmet('ray')}: install it with pip")
    address = os.environ.get("RAY_ADDRESS")
    if address is not None and address.startswith(("http://", "https://")):
        raise UsageError(f"RAY_ADDRESS={address}: expected host:port of a head, not its dashboard")
    with _no_warnings():
        import ray

        ray.init(
            address=address or "local",
            num_cpus=None if address else max(4, 2 * local_cores()),
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"PYTHONPATH": pythonpath}} if pythonpath else None,
        )
    return look(local=address is None)
