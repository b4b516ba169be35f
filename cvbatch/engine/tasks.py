"""Plain Ray tasks: probing models, writing files, and images that must be alone.

This module does not import ray.data, so that a fresh worker is ready a second sooner.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError

from cvbatch.engine.resource_plan import ResourcePlan
from cvbatch.errors import ModelError, RowError
from cvbatch.models.backends import backend_of
from cvbatch.models.resolve import needs_probe
from cvbatch.models.spec import ModelSpec
from cvbatch.output.data_files import WriteContext, WriteResult, write_data_files
from cvbatch.planning.units import RowUnit, read_unit_rows
from cvbatch.stages.decode import fetch_and_decode
from cvbatch.stages.predict import PredictOptions
from cvbatch.stages.weight_files import WeightFiles
from cvbatch.storage.location import Location
from cvbatch.system.ray_compat import BlockBundle, block_references
from cvbatch.tuning.search import BenchmarkSpec, measure_settings

TASK_RETRIES: Final = 3
"""How often a task is tried again after its process died; Ray's own default is for ever."""
_ISOLATED_RETRIES: Final = 1
_MEASURING_RETRIES: Final = 2
_WRITE_THREADS: Final = 4
"""Files that one process writes at once; slow ones are uploads."""


def probe_models(models: Sequence[ModelSpec], files: WeightFiles) -> tuple[ModelSpec, ...]:
    """Load the models that need it in a worker, so that the driver never imports torch."""
    probe = ray.remote(num_cpus=1, max_retries=0)(_probe_model_task)
    references = [probe.remote(model, files) for model in models]
    return tuple(_await_probe(model, reference) for model, reference in zip(models, references, strict=True))


def measure_settings_in_task(rows: pa.Table, trial: BenchmarkSpec, pools: ResourcePlan) -> list[dict[str, Any]]:
    """Measure settings in a worker like those that will predict."""
    work = _predictor_task_options(pools, retries=_MEASURING_RETRIES)(measure_settings)
    found: list[dict[str, Any]] = ray.get(work.remote(rows, trial))
    return found


class FileWriters:
    """Files that are being written: by threads of this process where Ray is its own, by tasks in a cluster.

    In a cluster rows stay where they are. On one machine a task would only cost the start of its worker, and that of
    another one for the decoding whose place it took: of two cores, 2,000 images of ResNet-50 took 9 % longer.

    Args:
        job: What the files have in common.
        pools: Where tasks may run.
        local: Whether Ray was started by this process, for itself.
    """

    def __init__(self, job: WriteContext, pools: ResourcePlan, *, local: bool) -> None:
        self._job = job
        self._pending: set[Future[WriteResult]] = set()
        self._threads = ThreadPoolExecutor(_WRITE_THREADS, "write") if local else None
        # no CPU of their own: they are short, and must not queue behind decoding
        self._task = ray.remote(num_cpus=0, max_retries=TASK_RETRIES, **pools.write_where)(_write_task)

    def submit_blocks(self, bundles: Sequence[BlockBundle]) -> None:
        """Start writing the blocks of some bundles into one file."""
        references = block_references(bundles)
        if self._threads is not None:
            # fetched here: a thread that is late would ask when Ray has gone, and Ray would start once more for it
            self._pending.add(self._threads.submit(write_data_files, self._job, ray.get(references)))
        else:
            self._pending.add(self._task.remote(self._job, *references).future())

    def write_in_driver(self, bundles: Sequence[BlockBundle]) -> WriteResult:
        """Write a few blocks in this process, now."""
        return write_data_files(self._job, ray.get(block_references(bundles)))

    def finished_files(self, timeout: float | None = 0) -> list[WriteResult]:
        """Return what was written meanwhile; None waits for everything."""
        done, self._pending = wait(self._pending, timeout)
        return [file.result() for file in done]

    def close(self) -> None:
        """Begin no further file; what is being written meanwhile does not count."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def predict_isolated(
    output: Location, units: Sequence[RowUnit], options: PredictOptions, pools: ResourcePlan, stalled_after: float
) -> Iterator[tuple[RowUnit, pa.Table | RowError]]:
    """Decode and predict each unit in a process of its own, which ends with it.

    Args:
        output: The output with the plan.
        units: Of one row each.
        options: The models and what they need.
        pools: The stages' shares of the cluster.
        stalled_after: Seconds after which a process is ended that gives no answer.

    Yields:
        The predicted row, or why there is none.
    """
    work = _predictor_task_options(pools, retries=_ISOLATED_RETRIES)(_predict_unit_in_task)
    waiting, running = deque(units), dict[Any, tuple[RowUnit, float]]()
    while waiting or running:
        while waiting and len(running) < pools.num_actors:
            unit = waiting.popleft()
            running[work.remote(output, unit, options)] = (unit, time.monotonic())
        done, _ = ray.wait(list(running), timeout=1.0)
        late = [each for each, (_, since) in running.items() if time.monotonic() - since > stalled_after]
        for reference in {*done, *late}:
            unit, _ = running.pop(reference)
            yield unit, _await_isolated_result(reference, in_time=reference in done)


def _predictor_task_options(pools: ResourcePlan, *, retries: int) -> Any:
    """A task where the models may run, in a process of its own."""
    return ray.remote(
        num_cpus=pools.actor_cpus,
        num_gpus=pools.actor_gpus,
        max_calls=1,
        max_retries=retries,
        **pools.predict_where,
    )


def _await_isolated_result(reference: Any, *, in_time: bool) -> pa.Table | RowError:
    if not in_time:
        ray.cancel(reference, force=True)
        return RowError("predict", "TimedOut", "the process that worked on this image gave no answer")
    try:
        return ray.get(reference)
    except RayTaskError:
        raise
    except OutOfMemoryError:
        return RowError("predict", "ProcessDied", "the process that worked on this image took all memory", True)
    except RayError:
        return RowError("predict", "ProcessDied", "the process that worked on this image died each time")


def _predict_unit_in_task(output: Location, unit: RowUnit, options: PredictOptions) -> pa.Table:
    from cvbatch.stages.predict import PredictActor

    return PredictActor(options)(fetch_and_decode(read_unit_rows(output, unit), options.decode))


def _await_probe(model: ModelSpec, reference: Any) -> ModelSpec:
    try:
        probed: ModelSpec = ray.get(reference)
    except WorkerCrashedError:
        name = backend_of(model).display_name(model)
        how = "it ended its process while it was loaded, as os._exit or an error in native code does"
        raise ModelError(f"{name}: {how}; load it in a process of its own to see where") from None
    return probed


def _probe_model_task(model: ModelSpec, files: WeightFiles) -> ModelSpec:
    from cvbatch.inference.predictor import probe_model  # torch stays in the worker

    if not needs_probe(model):
        return model
    (here,) = files.fetch_local([model])
    return replace(probe_model(here), weights_path=model.weights_path)


def _write_task(job: WriteContext, *blocks: pa.Table) -> WriteResult:
    return write_data_files(job, blocks)
