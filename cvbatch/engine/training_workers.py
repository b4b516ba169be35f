"""Workers of a training, by Ray Train (V2): processes that work together, and are started again if they die.

Ray Train is used for what it is good at: it reserves the places, starts one process on each with torch's process group
between them, watches them, and starts all of them again when one dies. Checkpoints are the work's own, so that they are
written as everything else in an output is; Ray's own storage holds nothing.
"""

from __future__ import annotations

import os
import tempfile
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from cvbatch.engine.nodes import Cluster
from cvbatch.engine.ray_errors import to_cvbatch_error
from cvbatch.engine.startup import RayStartup
from cvbatch.errors import UsageError, try_call
from cvbatch.system.control_group import usable_cores
from cvbatch.system.ray_compat import TRAIN_ENVIRONMENT

T = TypeVar("T")
_STORE_BYTES: Final = 256 << 20
"""Object store of a local head; only the work itself passes through it."""
_WATCH_SECONDS: Final = 0.5
_STOP_SECONDS: Final = 60.0
"""How long workers may take to end by themselves after they were asked to."""


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """Where one worker works."""

    rank: int
    workers: int
    device: str
    """`cpu`, or `cuda:N`."""
    threads: int
    """Cores that it may use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRequest:
    """Which workers are needed."""

    workers: int
    device: str
    """`auto`, `cpu` or `cuda`."""
    restarts: int
    """How often all are started again after one died."""
    start_timeout: float
    """Seconds for Ray to start."""


Work = Callable[[WorkerPlace], T]
"""What each worker does; it can be pickled."""
Watch = Callable[[], None]
"""Called a few times a second while the workers work."""


def work_on_ray(
    work: Work[T],
    request: WorkerRequest,
    watch: Watch,
    ask_to_stop: Callable[[], None],
    report: Callable[[str], None],
) -> T:
    """Let workers work on Ray; return what the first of them returns.

    Args:
        work: What each worker does.
        request: Which workers are needed.
        watch: Called a few times a second.
        ask_to_stop: Called if this process is interrupted; the workers are then waited for.
        report: Receives phrases that say what is waited for.

    Raises:
        UsageError: If there are not as many places as workers, or no GPU.
        RunError: If workers died more often than `request.restarts`.
        KeyboardInterrupt: After the workers have ended.
    """
    for name, value in TRAIN_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    report("starting Ray")
    startup = RayStartup(None, request.start_timeout, _STORE_BYTES)
    try:
        cluster = startup.wait_until_ready()
        device = _choose_device(cluster, request)
        report("starting the workers")
        _import_ray_train()
        return _wait_for(lambda: _fit(work, request, device, cluster), watch, ask_to_stop)
    finally:
        startup.stop_ray()


def work_in_process(
    work: Work[T],
    request: WorkerRequest,
    watch: Watch,
    ask_to_stop: Callable[[], None],
    report: Callable[[str], None],
) -> T:
    """Let one worker work in this process; see `work_on_ray`.

    Raises:
        UsageError: If more than one worker is asked for.
    """
    if request.workers > 1:
        raise UsageError(f"compute.workers: expected 1 in one process, got {request.workers}")
    device = "cuda:0" if request.device == "cuda" else "cpu"
    return work(WorkerPlace(rank=0, workers=1, device=device, threads=_cores_of_process()))


def _cores_of_process() -> int:
    """Cores for the libraries of one process; `OMP_NUM_THREADS` says it where somebody has set it."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else usable_cores()


def _choose_device(cluster: Cluster, request: WorkerRequest) -> str:
    """Return `cpu` or `cuda`.

    Raises:
        UsageError: If GPUs are asked for that are not there.
    """
    gpus = int(sum(node.gpus for node in cluster.nodes))
    if request.device == "cpu" or (request.device == "auto" and not gpus):
        return "cpu"
    if gpus < request.workers:
        has = f"it has {gpus}" if gpus else "it has none"
        raise UsageError(
            f"compute.device: {request.device} with {request.workers} workers needs {request.workers} GPUs, and {has}: "
            "set compute.device=cpu, or fewer compute.workers"
        )
    return "cuda"


def _wait_for(fit: Callable[[], T], watch: Watch, ask_to_stop: Callable[[], None]) -> T:
    """Call Ray Train in a thread, because in the main thread it replaces the handlers of signals."""
    results = list[T | Exception]()
    thread = threading.Thread(target=lambda: results.append(try_call(fit)), name="ray-train", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_WATCH_SECONDS)
            watch()
    except KeyboardInterrupt:
        ask_to_stop()
        thread.join(_STOP_SECONDS)
        raise
    if isinstance(results[0], Exception):
        raise to_cvbatch_error(results[0]) from results[0]
    return results[0]


def _import_ray_train() -> None:
    """Import Ray Train without the warnings of what it imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray.train.torch  # noqa: F401


def _fit(work: Work[T], request: WorkerRequest, device: str, cluster: Cluster) -> T:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    on_gpu = device == "cuda"
    threads = max(1, _cores_of_process() // request.workers) if cluster.local else 1
    with tempfile.TemporaryDirectory(prefix="cvbatch-") as folder:
        trainer = TorchTrainer(
            _work_in_worker,
            train_loop_config={"work": work, "threads": threads},
            torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=request.workers,
                use_gpu=on_gpu,
                resources_per_worker={"CPU": 1, **({"GPU": 1} if on_gpu else {})},
            ),
            run_config=RunConfig(
                name="training", storage_path=folder, failure_config=FailureConfig(max_failures=request.restarts)
            ),
        )
        result: Any = trainer.fit()
    value: T = result.return_value
    return value


def _work_in_worker(config: dict[str, Any]) -> Any:
    """What Ray Train calls in each worker."""
    from ray.train import get_context
    from ray.train.torch import get_device

    context = get_context()
    return config["work"](
        WorkerPlace(context.get_world_rank(), context.get_world_size(), str(get_device()), config["threads"])
    )
