"""Everything that depends on private or text-matched behaviour of Ray.

Each entry says why it is needed. All were verified with Ray 2.60.0, and `tests/system/test_ray_compat.py` fails when an
upgrade removes one. Ray is imported inside the functions, so that cvbatch starts without it.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import cvbatch
from cvbatch.errors import UsageError

if TYPE_CHECKING:
    from ray.data._internal.execution.execution_callback import ExecutionCallback as ExecutionCallback
else:

    def __getattr__(name: str) -> Any:
        """`ExecutionCallback`: base class of hooks that Ray Data calls at each step of its scheduling loop.

        There is no public hook: the consumer of a streamed data set gets no control while no block completes.
        """
        if name != "ExecutionCallback":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from ray.data._internal.execution.execution_callback import ExecutionCallback

        return ExecutionCallback


# ── Environment: read once by Ray, at its import or when one of its processes starts; it accepts any name ──

CLUSTER_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a task without a GPU keeps the environment's GPU variables
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # Ray Data's limit on blocks between two stages applies from the start, not only once half the store is full
    "RAY_DATA_DOWNSTREAM_CAPACITY_OBJECT_STORE_BUDGET_UTIL_THRESHOLD": "0",
    "RAY_task_oom_retries": "3",  # by default unlimited
}
"""For every Ray, unless the user sets the variable."""

OWN_HEAD_ENVIRONMENT: Final = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # makes Ray listen on loopback only
    "RAY_worker_niceness": "0",  # by default 15, which leaves no room to lower decoding below prediction
    "RAY_enable_metrics_collection": "0",  # nobody can read them: only child processes know the token
    "RAY_task_events_report_interval_ms": "0",
    "RAY_AUTH_MODE": "token",
}
"""In addition, for a local head."""

TRAIN_ENVIRONMENT: Final = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths stay what they are
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a dead worker is noticed soon
}
"""For Ray Train, unless the user sets the variable."""

NO_MEMORY_MONITOR: Final = {"RAY_memory_monitor_refresh_ms": "0"}
"""In addition, in a container whose kernel kills single processes: it counts the kills, and Ray's monitor does not."""

ADDRESS_OVERRIDES: Final = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
"""Variables that override the address argument of Ray's job client."""


# ── Names and layouts ──

SOCKET_PATH: Final = "/ray/session_2026-12-31_23-59-59_999999_4194304/sockets/plasma_store"
"""The longest path that Ray appends to its temporary folder for a socket."""
NODE_RESOURCE: Final = "node:"
"""Prefix of the resource of each machine, followed by its address; a small amount of it ties a stage to the machine."""
ACCELERATOR_RESOURCE: Final = "accelerator_type:"
"""Prefix of resources that name a node's GPU type; jobs do not request them."""
NODE_ID_LABEL: Final = "ray.io/node-id"
VERSION_PATH: Final = "/api/version"
NODES_PATH: Final = "/api/v0/nodes?limit=10000"
"""Of the dashboard. It is requested without Ray's client, which reports a wrong token as a network failure."""


def temporary_folder(path: str | None) -> dict[str, Any]:
    """Return the `ray.init` argument for the folder of sockets and log files; `TMPDIR` may be too long for sockets."""
    return {"_temp_dir": path}


def log_folder() -> str:
    """Return the folder with the log files of the newest head on this machine."""
    return os.path.join(tempfile.gettempdir(), "ray", "session_latest", "logs")


def living_nodes(answer: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the alive nodes of the dashboard's answer to `NODES_PATH`; each has `node_ip`."""
    nodes = answer.get("data", {}).get("result", {}).get("result", [])
    return tuple(node for node in nodes if node.get("state") == "ALIVE")


def worker_job_config() -> Any:
    """Return a `JobConfig` that keeps the current folder off the workers' import path.

    A `torch.py` in that folder would shadow torch. Ray adds the folder when it connects, and has no option against it.
    The first import path of this process and the parent folder of this package stay.
    """
    from ray.job_config import JobConfig

    class OwnJobConfig(JobConfig):
        @property
        def _py_driver_sys_path(self) -> list[str]:
            return self._import_paths

        @_py_driver_sys_path.setter
        def _py_driver_sys_path(self, paths: list[str]) -> None:
            self._import_paths = _ImportPathList(paths)

    return OwnJobConfig()


class _ImportPathList(list[str]):
    """Import path of the workers: accepts only this process's first import path and this package's parent folder."""

    def extend(self, paths: Iterable[str]) -> None:
        """Add the accepted paths."""
        package_parent = os.path.dirname(os.path.dirname(os.path.abspath(cvbatch.__file__)))
        super().extend(path for path in paths if path in (sys.path[0], package_parent))


# ── Ray Data ──


def set_data_context(settings: Mapping[str, Any]) -> None:
    """Set attributes of Ray's `DataContext`, which itself accepts any name silently.

    Args:
        settings: Values by attribute.

    Raises:
        UsageError: If the installed Ray has no such attribute, and so would ignore it.
    """
    import ray
    from ray.data import DataContext

    context = DataContext.get_current()
    if unknown := [name for name in settings if not hasattr(context, name)]:
        raise UsageError(
            f"Ray {ray.__version__} has no DataContext.{unknown[0]}: expected a version that this cvbatch knows; "
            "install a newer cvbatch, or ray==2.60"
        )
    for name, value in settings.items():
        setattr(context, name, value)


class BlockBundle(Protocol):
    """Ray's `RefBundle`: references to blocks that stay in the cluster."""

    @property
    def block_refs(self) -> Sequence[Any]:
        """References to the blocks."""

    def num_rows(self) -> int | None:
        """Rows of all blocks; None if unknown."""

    def size_bytes(self) -> int:
        """Bytes of all blocks."""


def iter_bundles(dataset: Any) -> Iterator[BlockBundle]:
    """Run a data set and yield references as blocks complete; the public methods fetch the blocks to the driver."""
    bundles: Iterator[BlockBundle] = dataset.iter_internal_ref_bundles()
    return bundles


def block_references(bundles: Iterable[BlockBundle]) -> list[Any]:
    """Return the references to all blocks of the bundles."""
    return [reference for bundle in bundles for reference in bundle.block_refs]


def actor_was_restarted() -> bool:
    """Whether this process is an actor that Ray restarted; `was_current_actor_reconstructed` is undocumented."""
    import ray

    if not ray.is_initialized():
        return False
    context = ray.get_runtime_context()
    return context.get_actor_id() is not None and bool(context.was_current_actor_reconstructed)


# ── Texts, and names of classes ──

_LOG_FILE_HANDLER: Final = "SessionFileHandler"
_CHAINED: Final = "The above exception was the direct cause"
_OTHER_VERSION: Final = "Version mismatch"
_NO_AGENT: Final = "No available agent"
_JOB_LOGGERS: Final = ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging")


def writes_log_files(handler: logging.Handler) -> bool:
    """Whether a handler of `ray.data` writes Ray's log files, and not to the console; its class is private."""
    return type(handler).__name__ == _LOG_FILE_HANDLER


def cause_of(error: BaseException) -> BaseException | None:
    """Return the cause of an error; Ray stores it in its own attribute."""
    cause: BaseException | None = getattr(error, "cause", None) or error.__cause__
    return cause


def root_line(text: str) -> str:
    """Return the line that names the first cause in the text of a chained traceback, as in errors of Ray."""
    lines = [line.strip() for line in text.partition(_CHAINED)[0].splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def is_other_version(text: str) -> bool:
    """Whether Ray refuses a cluster with another version of Ray or Python; the error is a plain `RuntimeError`."""
    return text.startswith(_OTHER_VERSION)


def agent_is_missing(error: BaseException) -> bool:
    """Whether a head refused a job because its agent has not started yet, as in its first seconds.

    Ray's client raises a `RuntimeError` with the text of the answer.
    """
    return _NO_AGENT in str(error)


def quiet_job_client() -> None:
    """Silence the loggers that report each upload and each retry; Ray's client has no option for that."""
    for name in ("ray", *(f"ray.{module}" for module in _JOB_LOGGERS)):
        logging.getLogger(name).setLevel(logging.ERROR)
