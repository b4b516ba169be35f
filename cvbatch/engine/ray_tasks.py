"""Plain Ray tasks: probing models, measuring settings, writing files, and predicting isolated images.

This module does not import ray.data, so that a fresh worker is ready a second sooner.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
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
"""How often a task is retried after its process died; Ray's default is unlimited."""
_ISOLATED_RETRIES: Final = 1
_MEASURING_RETRIES: Final = 2
_WRITE_THREADS: Final = 4
"""Files that one process writes concurrently; uploads are slow."""


def probe_models(models: Sequence[ModelSpec], weight_files: WeightFiles) -> tuple[ModelSpec, ...]:
    """Probe models in a worker, so that the driver never imports torch."""
    probe = ray.remote(num_cpus=1, max_retries=0)(_probe_model_task)
    references = [probe.remote(model, weight_files) for model in models]
    return tuple(_await_probe(model, reference) for model, reference in zip(models, references, strict=True))


def measure_settings_in_task(
    rows: pa.Table, benchmark: BenchmarkSpec, resource_plan: ResourcePlan
) -> list[dict[str, Any]]:
    """Measure settings in a worker with the resources of a predict actor."""
    task = _predictor_task_options(resource_plan, retries=_MEASURING_RETRIES)(measure_settings)
    results: list[dict[str, Any]] = ray.get(task.remote(rows, benchmark))
    return results


class FileWriters:
    """Writes files concurrently: in threads of this process with a local Ray, in tasks in a cluster.

    In a cluster the rows do not move to the driver. On one machine a task would only cost the start of its worker, and
    of another one for the decode task that it displaces: 2,000 images of ResNet-50 on two cores took 9 % longer.

    Args:
        context: Common properties of the files.
        resource_plan: Says where tasks may run.
        local: Whether this process started Ray for itself.
        write: Writes blocks as data files.
    """

    def __init__(
        self,
        context: WriteContext,
        resource_plan: ResourcePlan,
        *,
        local: bool,
        write: Callable[[WriteContext, Sequence[pa.Table]], WriteResult] = write_data_files,
    ) -> None:
        self._context, self._write = context, write
        self._pending: set[Future[WriteResult]] = set()
        self._threads = ThreadPoolExecutor(_WRITE_THREADS, "write") if local else None
        # without a CPU: write tasks are short, and must not queue behind decoding
        self._task = ray.remote(num_cpus=0, max_retries=TASK_RETRIES, **resource_plan.write_where)(_write_task)

    def submit_blocks(self, bundles: Sequence[BlockBundle]) -> None:
        """Start writing the blocks of the bundles into one file."""
        references = block_references(bundles)
        if self._threads is not None:
            # fetched in this thread: a late `ray.get` in a writer thread, after Ray has stopped, would start Ray again
            self._pending.add(self._threads.submit(self._write, self._context, ray.get(references)))
        else:
            self._pending.add(self._task.remote(self._write, self._context, *references).future())

    def write_in_driver(self, bundles: Sequence[BlockBundle]) -> WriteResult:
        """Write the blocks of the bundles in this process and wait for the file."""
        return self._write(self._context, ray.get(block_references(bundles)))

    def finished_files(self, timeout: float | None = 0) -> list[WriteResult]:
        """Return the files written since the last call; wait at most `timeout` seconds, None for all files."""
        done, self._pending = wait(self._pending, timeout)
        return [future.result() for future in done]

    def close(self) -> None:
        """Cancel files that have not started; files that are being written are ignored."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def predict_isolated(
    output: Location,
    units: Sequence[RowUnit],
    options: PredictOptions,
    resource_plan: ResourcePlan,
    stalled_after: float,
) -> Iterator[tuple[RowUnit, pa.Table | RowError]]:
    """Decode and predict each unit in its own process; see `work_isolated`."""
    return work_isolated(output, units, partial(_predict_rows, options), resource_plan, stalled_after)


def work_isolated(
    output: Location,
    units: Sequence[RowUnit],
    work: Callable[[pa.Table], pa.Table],
    resource_plan: ResourcePlan,
    stalled_after: float,
) -> Iterator[tuple[RowUnit, pa.Table | RowError]]:
    """Work on each unit in its own process, which ends afterwards.

    Args:
        output: The output with the plan.
        units: Of one row each.
        work: Turns rows of the plan into rows of the output.
        resource_plan: Resources of each stage.
        stalled_after: Seconds after which a process without an answer is killed.

    Yields:
        Each unit with its row, or with the error.
    """
    task = _predictor_task_options(resource_plan, retries=_ISOLATED_RETRIES)(_work_on_unit_in_task)
    waiting, running = deque(units), dict[Any, tuple[RowUnit, float]]()
    while waiting or running:
        while waiting and len(running) < resource_plan.num_actors:
            unit = waiting.popleft()
            running[task.remote(output, unit, work)] = (unit, time.monotonic())
        done, _ = ray.wait(list(running), timeout=1.0)
        overdue = [reference for reference, (_, since) in running.items() if time.monotonic() - since > stalled_after]
        for reference in {*done, *overdue}:
            unit, _ = running.pop(reference)
            yield unit, _await_isolated_result(reference, in_time=reference in done)


def _predictor_task_options(resource_plan: ResourcePlan, *, retries: int) -> Any:
    """Return the decorator of a task that runs in its own process with an actor's resources."""
    return ray.remote(
        num_cpus=resource_plan.actor_cpus,
        num_gpus=resource_plan.actor_gpus,
        max_calls=1,
        max_retries=retries,
        **resource_plan.predict_where,
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


def _work_on_unit_in_task(output: Location, unit: RowUnit, work: Callable[[pa.Table], pa.Table]) -> pa.Table:
    return work(read_unit_rows(output, unit))


def _predict_rows(options: PredictOptions, rows: pa.Table) -> pa.Table:
    from cvbatch.stages.predict import PredictActor

    return PredictActor(options)(fetch_and_decode(rows, options.decode))


def _await_probe(model: ModelSpec, reference: Any) -> ModelSpec:
    try:
        probed: ModelSpec = ray.get(reference)
    except WorkerCrashedError:
        name = backend_of(model).display_name(model)
        reason = "its process ended during loading, as with os._exit or an error in native code"
        raise ModelError(f"{name}: {reason}; load it in a separate Python process to see where") from None
    return probed


def _probe_model_task(model: ModelSpec, weight_files: WeightFiles) -> ModelSpec:
    from cvbatch.inference.predictor import probe_model  # torch stays in the worker

    if not needs_probe(model):
        return model
    (local_model,) = weight_files.fetch_local([model])
    return replace(probe_model(local_model), weights_path=model.weights_path)


def _write_task(
    write: Callable[[WriteContext, Sequence[pa.Table]], WriteResult], context: WriteContext, *blocks: pa.Table
) -> WriteResult:
    return write(context, blocks)
