"""The only module that builds Ray Data pipelines.

ARCHITECTURE.md explains each setting. Most of them keep Ray from cutting, merging, fusing, dropping or endlessly
retrying a unit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar, Final

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, Datasource, ReadTask, TaskPoolStrategy
from ray.data.block import BlockMetadata
from ray.data.exceptions import ExecutionTimeoutError

from cvbatch.engine.ray_tasks import TASK_RETRIES
from cvbatch.engine.resource_plan import READY_UNITS_PER_ACTIVE, ResourcePlan
from cvbatch.planning.units import RowUnit, read_unit_rows
from cvbatch.stages.decode import DecodeOptions, fetch_and_decode
from cvbatch.stages.predict import PredictActor, PredictOptions
from cvbatch.storage.location import Location
from cvbatch.system.ray_compat import BlockBundle, ExecutionCallback, iter_bundles, set_data_context


class UnitSource(Datasource):
    """Units of one wave: each is one read task and becomes exactly one block."""

    def __init__(self, output: Location, units: Sequence[RowUnit]) -> None:
        super().__init__()
        self._output = output
        self._units = units

    def get_name(self) -> str:
        """Name in Ray's reports."""
        return "CvbatchUnits"

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown; this package bounds block sizes, not Ray."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """One task per unit, whatever `parallelism` Ray requests."""
        return [
            ReadTask(
                partial(_read_unit_task, self._output, unit),
                BlockMetadata(num_rows=unit.row_count, size_bytes=None, input_files=None, exec_stats=None),
            )
            for unit in self._units
        ]


class WaveEndedError(ExecutionTimeoutError):
    """A wave ended before its units were done; Ray logs errors of this type in one line."""


class WaveInterruption(ExecutionCallback):
    """Ends a wave from within Ray's scheduling loop: no other code runs while no unit makes progress."""

    should_stop: ClassVar[Callable[[], bool]]
    """A class attribute: Ray creates the instances, and sends the class to the workers by its name."""

    def on_execution_step(self, executor: Any) -> None:
        """Check whether to end the wave; called about ten times a second.

        Raises:
            WaveEndedError: If `should_stop` says so.
        """
        if type(self).should_stop():
            raise WaveEndedError


_ACTOR_RESTARTS: Final = 100
"""Each image that kills its process costs a few restarts; Ray's default is unlimited."""
_ACTOR_RETRIES: Final = 1
_NICENESS: Final = 10
"""Of decode processes."""


def stream_predicted_blocks(
    output: Location,
    units: Sequence[RowUnit],
    options: PredictOptions,
    resource_plan: ResourcePlan,
    *,
    max_lost_units: int,
    stalled_after: float,
    should_stop: Callable[[], bool],
) -> Generator[BlockBundle]:
    """Stream units through decoding and prediction.

    Args:
        output: The output with the plan.
        units: Units of the wave.
        options: Models and their options.
        resource_plan: Resources of each stage.
        max_lost_units: The stream ends with an error when more units than this are lost with their processes.
        stalled_after: The stream ends with an error after this many seconds without progress.
        should_stop: Whether to end the wave now.

    Yields:
        One bundle of references per unit; the blocks stay in the cluster.

    Raises:
        WaveEndedError: If `should_stop` ended the wave.
    """
    set_data_context(data_settings(resource_plan, max_lost_units=max_lost_units, stalled_after=stalled_after))
    WaveInterruption.should_stop = should_stop
    dataset = _map_units(output, units, partial(_decode_in_background, options=options.decode), resource_plan)
    dataset = dataset.map_batches(
        PredictActor,
        fn_constructor_args=(options,),
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ActorPoolStrategy(
            size=resource_plan.num_actors,
            max_tasks_in_flight_per_actor=resource_plan.units_in_flight,
            max_concurrent_calls_per_actor=resource_plan.units_at_once,
            enable_true_multi_threading=resource_plan.units_at_once > 1,
        ),
        num_cpus=resource_plan.actor_cpus,
        # requested in this way because Ray Data refuses num_gpus without a batch size, which would merge units
        ray_remote_args_fn=partial(dict, num_gpus=resource_plan.actor_gpus) if resource_plan.actor_gpus else None,
        max_restarts=_ACTOR_RESTARTS,
        max_task_retries=_ACTOR_RETRIES,
        **resource_plan.predict_where,
    )
    yield from iter_bundles(dataset)


def stream_worked_blocks(
    output: Location,
    units: Sequence[RowUnit],
    work: Callable[[pa.Table], pa.Table],
    resource_plan: ResourcePlan,
    *,
    task_cpus: float,
    max_lost_units: int,
    stalled_after: float,
    should_stop: Callable[[], bool],
) -> Generator[BlockBundle]:
    """Stream units through one stage of tasks; see `stream_predicted_blocks`.

    Args:
        output: The output with the plan.
        units: Units of the wave.
        work: Turns rows of the plan into rows of the output; it is pickled.
        resource_plan: `decode_tasks` tasks at once.
        task_cpus: Share of a core that each task reserves.
        max_lost_units: As there.
        stalled_after: As there.
        should_stop: As there.

    Yields:
        One bundle of references per unit; the blocks stay in the cluster.

    Raises:
        WaveEndedError: If `should_stop` ended the wave.
    """
    set_data_context(data_settings(resource_plan, max_lost_units=max_lost_units, stalled_after=stalled_after))
    WaveInterruption.should_stop = should_stop
    yield from iter_bundles(_map_units(output, units, work, resource_plan, task_cpus))


def _map_units(
    output: Location,
    units: Sequence[RowUnit],
    work: Callable[[pa.Table], pa.Table],
    resource_plan: ResourcePlan,
    task_cpus: float = 1,
) -> Dataset:
    """Read the rows of units, and work on each unit as a whole, in tasks."""
    tasks = TaskPoolStrategy(size=resource_plan.decode_tasks)
    dataset: Dataset = ray.data.read_datasource(
        UnitSource(output, units),
        override_num_blocks=len(units),
        num_cpus=task_cpus,
        compute=tasks,
        ray_remote_args={"max_retries": TASK_RETRIES, **resource_plan.decode_where},
    )
    return dataset.map_batches(
        work,
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=task_cpus,
        compute=tasks,
        max_retries=TASK_RETRIES,
        **resource_plan.decode_where,
    )


def data_settings(resource_plan: ResourcePlan, *, max_lost_units: int, stalled_after: float) -> dict[str, Any]:
    """Return values of Ray's `DataContext` by attribute; ARCHITECTURE.md explains each.

    Args:
        resource_plan: Resources of each stage.
        max_lost_units: Maximum number of lost units.
        stalled_after: Seconds without progress after which Ray Data gives up.
    """
    return {
        "target_max_block_size": None,
        "downstream_capacity_backpressure_ratio": READY_UNITS_PER_ACTIVE,
        "max_errored_blocks": max_lost_units,
        "actor_init_retry_on_errors": True,
        "actor_init_max_retries": 3,
        "max_consecutive_actor_init_deaths": 2 * resource_plan.num_actors,
        "execution_no_progress_timeout_s": stalled_after,
        "actor_task_retry_on_errors": False,
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "raise_original_map_exception": True,
        "custom_execution_callback_classes": [WaveInterruption],
    }


def _read_unit_task(output: Location, unit: RowUnit) -> list[pa.Table]:
    return [read_unit_rows(output, unit)]


def _decode_in_background(rows: pa.Table, options: DecodeOptions) -> pa.Table:
    _lower_priority()
    return fetch_and_decode(rows, options)


@lru_cache(maxsize=1)
def _lower_priority() -> None:
    """Give prediction priority on the cores: one of its threads that waits makes all others wait."""
    os.nice(_NICENESS)
