"""An engine for jobs without a model: one function turns rows of the plan into rows of the output.

Units, waves, passes, isolated images and files are those of a run with models; only the stages differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from cvbatch.config.compute import ComputeConfig
from cvbatch.config.job import Job
from cvbatch.engine.base import StartEngine, StartingEngine
from cvbatch.engine.nodes import Cluster, pin_to_driver_node
from cvbatch.engine.ray_engine import RayEngine, RunSetup
from cvbatch.engine.resource_plan import ResourcePlan, stage_placement
from cvbatch.engine.starting_ray import StartingRay, start_ray
from cvbatch.errors import RowError
from cvbatch.inference.settings import REFERENCE
from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.log_records import RunState
from cvbatch.output.store import open_store
from cvbatch.planning.plan import Plan
from cvbatch.planning.units import MAX_UNIT_BYTES, RowUnit
from cvbatch.storage.location import Location
from cvbatch.system.control_group import usable_cores
from cvbatch.system.ray_compat import BlockBundle
from cvbatch.tuning.certificate import TuningResult
from cvbatch.tuning.request import TuningRequest

Work = Callable[[pa.Table], pa.Table]
"""Turns rows of the plan into rows of the output, with all columns of its schema; pickled, and called in tasks."""
_MAX_UNIT: Final = 256
_UNITS_PER_TASK: Final = 4
_TASKS_PER_CORE: Final = 2
"""Ray needs a sixth of a second between two tasks of a process, in which another one has the core."""
_NO_MODEL: Final = TuningResult(REFERENCE, "no model runs")


def start_work_on_ray(work: Work, local_paths: Sequence[str] = ()) -> StartEngine:
    """Return what starts Ray for a job of one function; see `StartEngine`.

    Args:
        work: The function.
        local_paths: Paths on a disk that it reads besides the source of the job.
    """

    @contextmanager
    def start(
        output: Location,
        models: Sequence[ModelSpec],
        compute: ComputeConfig,
        pythonpath: str | None,
        report_status: Callable[[str], None],
        /,
    ) -> Generator[StartingEngine]:
        with start_ray(output, models, compute, pythonpath, report_status) as starting:
            yield _StartingWork(starting, work, local_paths)

    def start_engine(
        output: Location,
        models: Sequence[ModelSpec],
        compute: ComputeConfig,
        pythonpath: str | None,
        report_status: Callable[[str], None],
        /,
    ) -> AbstractContextManager[StartingEngine]:
        return start(output, models, compute, pythonpath, report_status)

    return start_engine


@dataclass(frozen=True, slots=True)
class _StartingWork:
    """A `StartingEngine`."""

    ray: StartingRay
    work: Work
    local_paths: Sequence[str]

    def probe_models(self, models: Sequence[ModelSpec], compute: ComputeConfig) -> tuple[ModelSpec, ...]:
        """See `StartingEngine`; there are no models."""
        return tuple(models)

    def prepare_engine(
        self, models: Sequence[ModelSpec], plan: Plan, state: RunState, job: Job, *, rows: int
    ) -> RayEngine:
        """See `StartingEngine`."""
        import cvbatch.engine.dataflow  # noqa: F401 - the import takes a second, while Ray starts

        cluster = self.ray.wait_for_cluster(job.compute)
        job = pin_to_driver_node(cluster, job, self.local_paths)
        self.ray.budget.update_cost(job.compute, len(cluster.nodes))
        schema = rows_schema((), exif=job.source.exif, extra_columns=plan.extra_columns(open_store(self.ray.output)))
        setup = RunSetup(self.ray.output, TuningRequest.from_job(job, ()), _NO_MODEL, schema, rows)
        return WorkEngine(self.work, setup, cluster, self.ray)


class WorkEngine(RayEngine):
    """An `Engine` with one stage of tasks.

    Args:
        work: The stage.
        setup: As for `RayEngine`, without models.
        cluster: The cluster as it is now.
        starting: What has started Ray.
    """

    def __init__(self, work: Work, setup: RunSetup, cluster: Cluster, starting: StartingRay) -> None:
        self._work = work
        super().__init__(setup, cluster, starting.budget, starting.kill_monitor, starting.report_status)

    def _plan_resources(self, cluster: Cluster) -> ResourcePlan:
        compute, rows = self._compute, self._setup.rows
        tasks = usable_cores() if cluster.local else int(sum(node.cpus for node in cluster.nodes_of(compute.decode)))
        tasks = max(1, tasks)
        fair_rows = max(1, math.ceil(rows / (_UNITS_PER_TASK * tasks)))
        placement = stage_placement(compute.decode)
        return ResourcePlan(
            device="cpu",
            setting=REFERENCE,
            num_actors=tasks,
            actor_cpus=1,
            actor_gpus=0,
            threads=1,
            unit_rows=min(_MAX_UNIT, fair_rows) if compute.unit_rows == "auto" else compute.unit_rows,
            units_in_flight=1,
            units_at_once=1,
            decode_tasks=tasks * _TASKS_PER_CORE,
            batch_size=None,
            bytes_in_flight=tasks * _TASKS_PER_CORE * MAX_UNIT_BYTES,
            decode_where=placement,
            predict_where=placement,
            write_where=placement,
        )

    def _stream_blocks(
        self, units: Sequence[RowUnit], max_lost_units: int, stalled_after: float
    ) -> Generator[BlockBundle]:
        from cvbatch.engine.dataflow import stream_worked_blocks

        return stream_worked_blocks(
            self._setup.output,
            units,
            self._work,
            self.resource_plan,
            task_cpus=1 / _TASKS_PER_CORE,
            max_lost_units=max_lost_units,
            stalled_after=stalled_after,
            should_stop=self._ends_early,
        )

    def _iter_isolated(self, units: Sequence[RowUnit]) -> Iterator[tuple[RowUnit, pa.Table | RowError]]:
        from cvbatch.engine.ray_tasks import work_isolated

        return work_isolated(self._setup.output, units, self._work, self.resource_plan, self._compute.stalled_after)
