"""Starting Ray quietly, or attaching to the cluster that `RAY_ADDRESS` names."""

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
"""Seconds to wait for Ray to end; what is left of it then ends with this process."""
_LONGEST_SAID: Final = 300


class RayStartup:
    """Ray, starting in the background while the plan is written.

    Args:
        pythonpath: Folder of own modules, if there are any; a cluster's workers then get our PYTHONPATH, too.
        timeout: Seconds after which it counts as failed.
        store: Bytes of the object store of a head of our own; None leaves that to Ray.

    Raises:
        UsageError: If there is no Ray that we could use, or it could not start here.
    """

    def __init__(self, pythonpath: str | None = None, timeout: float = START_SECONDS, store: int | None = None) -> None:
        self._failure: Exception | None = None
        self._cluster: Cluster | None = None
        self._settled = threading.Event()
        self._over = threading.Event()
        if describe_unmet_requirement("ray"):
            raise UsageError(f"{describe_unmet_requirement('ray')}: install it with pip")
        self._address, self._store = cluster_address(), store
        if self._address is None:
            check_host()
        self._timeout, self._began = timeout, time.monotonic()
        # before anybody imports ray, which reads it once; this thread may do so while the other is still on its way
        path = _set_ray_environment(self._address, pythonpath)
        self._thread = threading.Thread(target=self._start_in_thread, args=(path,), name="ray-start", daemon=True)
        self._thread.start()

    def wait_until_ready(self) -> Cluster:
        """Wait until Ray runs; a signal is heard meanwhile.

        Raises:
            UsageError: If it cannot run here.
            RunError: If it does not start, or not in time.
        """
        if not self._settled.wait(max(0.0, self._began + self._timeout - time.monotonic())):
            raise RunError(_start_timeout_message(self._address, self._timeout))
        if isinstance(self._failure, CvbatchError):
            raise self._failure
        if self._cluster is None:
            raise _explain_start_failure(self._failure, self._address)
        return self._cluster

    def stop_ray(self) -> None:
        """Stop Ray, or detach from the cluster; one that is still starting is left behind, and ends with us."""
        self._over.set()
        if self._settled.is_set():
            self._thread.join(_STOP_SECONDS)

    def _start_in_thread(self, pythonpath: str) -> None:
        # inherited by all processes of Ray: a terminal that is closed is heard by us, who commit with their help
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        with contextlib.ExitStack() as stack:
            found = try_call(lambda: self._connect_to_ray(pythonpath, stack))
            if isinstance(found, Cluster):
                self._cluster = found
            else:
                self._failure = found  # whatever it is: `wait_until_ready` waits
            self._settled.set()
            # Ray's processes die with the thread that started them (PR_SET_PDEATHSIG), so it has to stay
            self._over.wait()

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
                object_store_memory=None if self._address else self._store,
                include_dashboard=None if self._address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {"PYTHONPATH": pythonpath}} if pythonpath else None,
                job_config=ray_compat.worker_job_config(),
                **ray_compat.temporary_folder(folder),
            )
            if self._address is None:
                ray.get(ray.remote(num_cpus=0)(_do_nothing).remote())  # a head that gets no workers would wait for ever
        return current_cluster(local=self._address is None)


def _do_nothing() -> None:
    """What the first worker does: it has started, and found our package."""


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _set_ray_environment(address: str | None, pythonpath: str | None) -> str:
    """Tell Ray and its processes how to run; returns the folders that a cluster's workers are to import from.

    In a container the kernel ends what takes too much memory: it counts what it ends, and Ray's own monitor does not.
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
    """Why Ray has not started in time, as far as that is known, and what to do."""
    longer = "compute.ray_start_timeout waits longer"
    if address is not None:
        return f"{no_cluster_error(address, f'Ray was not to be had within {timeout:.0f} s')}; {longer}"
    return (
        f"Ray did not start on this machine within {timeout:.0f} s; is it very busy, or short of memory? Its log files "
        f"are below {ray_compat.log_folder()}, and {longer}"
    )


def _explain_start_failure(failure: Exception | None, address: str | None) -> CvbatchError:
    """What Ray says, in one line."""
    said = " ".join(str(failure).split())[:_LONGEST_SAID]
    if ray_compat.is_other_version(said):
        return UsageError(f"{said}; use the versions of the cluster here, or cvbatch submit")
    if address is not None and isinstance(failure, ConnectionError):
        return RunError(no_cluster_error(address, "none was found" if address == ON_THIS_MACHINE else said))
    return RunError(f"Ray did not start: {said}")
