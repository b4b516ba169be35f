"""The engine room: the only module that builds Ray Data pipelines.

What each setting is there for stands in ARCHITECTURE.md; most of them keep Ray from cutting, merging,
fusing, dropping or endlessly retrying what must stay one unit.
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

from cvbatch.engine.resource_plan import READY_UNITS_PER_ACTIVE, ResourcePlan
from cvbatch.engine.tasks import TASK_RETRIES
from cvbatch.planning.units import RowUnit, read_unit_rows
from cvbatch.stages.decode import DecodeOptions, fetch_and_decode
from cvbatch.stages.predict import PredictActor, PredictOptions
from cvbatch.storage.location import Location
from cvbatch.system.ray_compat import BlockBundle, ExecutionCallback, iter_bundles, set_data_context


class UnitSource(Datasource):
    """The units of one wave: each is one read task and becomes exactly one block."""

    def __init__(self, output: Location, units: Sequence[RowUnit]) -> None:
        super().__init__()
        self._output = output
        self._units = units

    def get_name(self) -> str:
        """Name in Ray's own reports."""
        return "CvbatchUnits"

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown; block sizes are ours to bound, not Ray's."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """One task per unit, however many tasks Ray would like."""
        return [
            ReadTask(
                partial(_read_unit_task, self._output, unit),
                BlockMetadata(num_rows=unit.row_count, size_bytes=None, input_files=None, exec_stats=None),
            )
            for unit in self._units
        ]


class WaveEndedError(ExecutionTimeoutError):
    """A wave was ended before its units were done; Ray logs errors of this kind in one line."""


class WaveInterruption(ExecutionCallback):
    """Ends a wave from within, as nobody else is asked while nothing moves."""

    should_stop: ClassVar[Callable[[], bool]]
    """Not of an instance: Ray makes those itself, and sends the class to the workers by its name."""

    def on_execution_step(self, executor: Any) -> None:
        """Look; some ten times a second.

        Raises:
            WaveOver: If it is time.
        """
        if type(self).should_stop():
            raise WaveEndedError


_ACTOR_RESTARTS: Final = 100
"""Every image that takes its process along costs a few; Ray's own default is for ever."""
_ACTOR_RETRIES: Final = 1
_NICENESS: Final = 10
"""Of processes that decode."""


def stream_predicted_blocks(
    output: Location,
    units: Sequence[RowUnit],
    options: PredictOptions,
    pools: ResourcePlan,
    *,
    max_lost_units: int,
    stalled_after: float,
    should_stop: Callable[[], bool],
) -> Generator[BlockBundle]:
    """Stream units through decoding and prediction.

    Args:
        output: The output with the plan.
        units: What to work on.
        options: The models and what they need.
        pools: The stages' shares of the cluster.
        max_lost_units: So many units may be lost with their processes before the stream ends with an error.
        stalled_after: It ends with an error, too, when nothing has moved for so many seconds.
        should_stop: Whether to end it now.

    Yields:
        Per unit a bundle of references; the pixels stay in the cluster and nothing reaches the driver.

    Raises:
        WaveOver: If it was ended.
    """
    set_data_context(data_settings(pools, tolerated=max_lost_units, stalled_after=stalled_after))
    WaveInterruption.should_stop = should_stop
    decoders = TaskPoolStrategy(size=pools.decode_tasks)
    dataset: Dataset = ray.data.read_datasource(
        UnitSource(output, units),
        override_num_blocks=len(units),
        num_cpus=1,
        compute=decoders,
        ray_remote_args={"max_retries": TASK_RETRIES, **pools.decode_where},
    )
    dataset = dataset.map_batches(
        partial(_decode_in_background, options=options.decode),
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=1,
        compute=decoders,
        max_retries=TASK_RETRIES,
        **pools.decode_where,
    )
    dataset = dataset.map_batches(
        PredictActor,
        fn_constructor_args=(options,),
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ActorPoolStrategy(
            size=pools.num_actors,
            max_tasks_in_flight_per_actor=pools.units_in_flight,
            max_concurrent_calls_per_actor=pools.units_at_once,
            enable_true_multi_threading=pools.units_at_once > 1,
        ),
        num_cpus=pools.actor_cpus,
        # asked for in this way, because Ray Data refuses num_gpus without a batch size, which would merge units
        ray_remote_args_fn=partial(dict, num_gpus=pools.actor_gpus) if pools.actor_gpus else None,
        max_restarts=_ACTOR_RESTARTS,
        max_task_retries=_ACTOR_RETRIES,
        **pools.predict_where,
    )
    yield from iter_bundles(dataset)


def data_settings(pools: ResourcePlan, *, tolerated: int, stalled_after: float) -> dict[str, Any]:
    """Values of Ray's `DataContext` by attribute; ARCHITECTURE.md says what each is for.

    Args:
        pools: The stages' shares of the cluster.
        tolerated: So many units may be lost.
        stalled_after: Seconds without progress after which Ray Data gives up.
    """
    return {
        "target_max_block_size": None,
        "downstream_capacity_backpressure_ratio": READY_UNITS_PER_ACTIVE,
        "max_errored_blocks": tolerated,
        "actor_init_retry_on_errors": True,
        "actor_init_max_retries": 3,
        "max_consecutive_actor_init_deaths": 2 * pools.num_actors,
        "execution_no_progress_timeout_s": stalled_after,
        "actor_task_retry_on_errors": False,
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "custom_execution_callback_classes": [WaveInterruption],
    }


def _read_unit_task(output: Location, unit: RowUnit) -> list[pa.Table]:
    return [read_unit_rows(output, unit)]


def _decode_in_background(rows: pa.Table, options: DecodeOptions) -> pa.Table:
    _lower_priority()
    return fetch_and_decode(rows, options)


@lru_cache(maxsize=1)
def _lower_priority() -> None:
    """Let prediction have the cores first: one of its threads that waits makes all the others wait."""
    os.nice(_NICENESS)
