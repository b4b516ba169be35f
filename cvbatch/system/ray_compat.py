"""Everything that rests on private or text-matched behaviour of Ray, in one place.

Each entry says why it is needed. All were seen with Ray 2.60.0, and `tests/system/test_ray_compat.py` fails when an
upgrade takes one away. Ray is imported inside the functions, so that a start of cvbatch does without it.
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
        """`ExecutionCallback`: how anything is called at each step of Ray Data's scheduling loop.

        There is no public hook: a data set that is consumed as a stream calls nobody while nothing moves.
        """
        if name != "ExecutionCallback":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from ray.data._internal.execution.execution_callback import ExecutionCallback

        return ExecutionCallback


# ── Environment: Ray reads these once, when it is imported or when a process of it starts, and takes any name ──

CLUSTER_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a task without a GPU keeps what the environment says of them
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # Ray Data's limit on what waits between two stages holds from the start, not only once half the store is full
    "RAY_DATA_DOWNSTREAM_CAPACITY_OBJECT_STORE_BUDGET_UTIL_THRESHOLD": "0",
    "RAY_task_oom_retries": "3",  # by default for ever
}
"""For every Ray that we use, unless the user has said otherwise."""

OWN_HEAD_ENVIRONMENT: Final = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listens on loopback alone where it knows of no clusters
    "RAY_worker_niceness": "0",  # by default 15, which leaves decoding nothing to give way to
    "RAY_enable_metrics_collection": "0",  # nobody could ask for them: only child processes know the token
    "RAY_task_events_report_interval_ms": "0",
    "RAY_AUTH_MODE": "token",
}
"""Besides, for a head of our own."""

NO_MEMORY_MONITOR: Final = {"RAY_memory_monitor_refresh_ms": "0"}
"""Besides, in a container whose kernel ends single processes: it counts them, and Ray's own monitor does not."""

ADDRESS_OVERRIDES: Final = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
"""Ray's job client takes these instead of the address that it is given."""


# ── Names and layouts ──

SOCKET_PATH: Final = "/ray/session_2026-12-31_23-59-59_999999_4194304/sockets/plasma_store"
"""The longest path that Ray appends to its temporary folder for a socket."""
NODE_RESOURCE: Final = "node:"
"""Each machine has a resource of this name and its address; taking a little of it ties a stage to the machine."""
ACCELERATOR_RESOURCE: Final = "accelerator_type:"
"""Resources of this name say which GPU a node has, and nobody asks for them."""
NODE_ID_LABEL: Final = "ray.io/node-id"
VERSION_PATH: Final = "/api/version"
NODES_PATH: Final = "/api/v0/nodes?limit=10000"
"""Of the dashboard. It is asked without Ray's client, which takes a wrong token for a network that is down."""


def temporary_folder(path: str | None) -> dict[str, Any]:
    """Argument of `ray.init` that says where sockets and log files go; `TMPDIR` may be too long for a socket's path."""
    return {"_temp_dir": path}


def log_folder() -> str:
    """Where the log files of the newest head on this machine are."""
    return os.path.join(tempfile.gettempdir(), "ray", "session_latest", "logs")


def living_nodes(answer: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """The nodes in the dashboard's answer to `NODES_PATH`; each has `node_ip`."""
    nodes = answer.get("data", {}).get("result", {}).get("result", [])
    return tuple(node for node in nodes if node.get("state") == "ALIVE")


def worker_job_config() -> Any:
    """A `JobConfig` without the current folder at the front of the workers' path: a `torch.py` in it is no torch.

    Ray appends the folder while it connects, and has no option for that. What this process itself imports from before
    all others stays, and our package.
    """
    from ray.job_config import JobConfig

    class OwnJobConfig(JobConfig):
        @property
        def _py_driver_sys_path(self) -> list[str]:
            return self._wanted

        @_py_driver_sys_path.setter
        def _py_driver_sys_path(self, paths: list[str]) -> None:
            self._wanted = _ImportPathList(paths)

    return OwnJobConfig()


class _ImportPathList(list[str]):
    """Folders that this process imports from before all others; only those can be added."""

    def extend(self, paths: Iterable[str]) -> None:
        """Add those that count."""
        ours = os.path.dirname(os.path.dirname(os.path.abspath(cvbatch.__file__)))
        super().extend(path for path in paths if path in (sys.path[0], ours))


# ── Ray Data ──


def set_data_context(settings: Mapping[str, Any]) -> None:
    """Set attributes of Ray's `DataContext`, which takes any name in silence.

    Args:
        settings: Values by attribute.

    Raises:
        UsageError: If the installed Ray has no such attribute, and so would not do what it says.
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
        """Rows of all blocks, if that is known."""

    def size_bytes(self) -> int:
        """Bytes of all blocks."""


def iter_bundles(dataset: Any) -> Iterator[BlockBundle]:
    """Run a data set and hand out references as blocks are done; what is public fetches the blocks to the driver."""
    bundles: Iterator[BlockBundle] = dataset.iter_internal_ref_bundles()
    return bundles


def block_references(bundles: Iterable[BlockBundle]) -> list[Any]:
    """References to the blocks of some bundles."""
    return [reference for bundle in bundles for reference in bundle.block_refs]


def actor_was_restarted() -> bool:
    """Whether this process is an actor that Ray has started anew; `was_current_actor_reconstructed` has no page."""
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
    """Whether a handler of `ray.data` writes Ray's log files; the others write on our console. Its class is private."""
    return type(handler).__name__ == _LOG_FILE_HANDLER


def cause_of(error: BaseException) -> BaseException | None:
    """What Ray, or Python, says is behind an error; Ray keeps it in an attribute of its own."""
    cause: BaseException | None = getattr(error, "cause", None) or error.__cause__
    return cause


def root_line(text: str) -> str:
    """The line that names the first cause, of a chained traceback: an error of Ray's is one, as text."""
    lines = [line.strip() for line in text.partition(_CHAINED)[0].splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def is_other_version(text: str) -> bool:
    """Whether Ray refuses a cluster that runs another Ray or Python; the error is a plain `RuntimeError`."""
    return text.startswith(_OTHER_VERSION)


def agent_is_missing(error: BaseException) -> bool:
    """Whether a head could not take a job because its agent is not up yet, as in its first seconds.

    The job was not taken then. Ray's client raises a `RuntimeError` with the text of the answer.
    """
    return _NO_AGENT in str(error)


def quiet_job_client() -> None:
    """Keep the loggers quiet that tell of each upload and each retry; Ray's client has no option for that."""
    for name in ("ray", *(f"ray.{module}" for module in _JOB_LOGGERS)):
        logging.getLogger(name).setLevel(logging.ERROR)
