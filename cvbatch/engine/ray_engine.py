"""Driver-side facade of Ray: waves of units, images one by one, and a cluster that changes during the run."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Final

import pyarrow as pa

from cvbatch.engine.budget import RunBudget
from cvbatch.engine.nodes import Cluster, ClusterMonitor, ClusterNode, wait_for_workers
from cvbatch.engine.oom_kills import OomKillMonitor, separate_oom_victims
from cvbatch.engine.ray_errors import RayErrorCapture, is_system_failure, to_cvbatch_error
from cvbatch.engine.resource_plan import ResourcePlan, allocate_resources, make_predict_options
from cvbatch.errors import RowError
from cvbatch.output.data_files import WriteContext, WriteResult, copy_unchanged_rows, write_data_files
from cvbatch.output.log_records import DataFile
from cvbatch.output.row_ranges import RowRanges
from cvbatch.planning.units import RowUnit, read_unit_rows
from cvbatch.stages.watchdog import STALL_GRACE_FACTOR
from cvbatch.storage.location import Location
from cvbatch.system.ray_compat import BlockBundle
from cvbatch.tuning.certificate import TuningResult
from cvbatch.tuning.request import TuningRequest

_ISOLATED_PER_FILE: Final = 64
_FIRST_IMAGES: Final = "loading the models and working on the first images"
_NEXT_IMAGES: Final = "working on the next images"


@dataclass(frozen=True, slots=True)
class RunSetup:
    """Inputs of an attempt that stay the same when the cluster changes."""

    output: Location
    request: TuningRequest
    certificate: TuningResult
    schema: pa.Schema
    """Of the predictions."""
    rows: int
    """Number of remaining images."""


class RayEngine:
    """An `Engine` on a connected Ray; `StartingRay.prepare_engine` creates it.

    Args:
        setup: Inputs that stay the same.
        cluster: The cluster as it is now.
        budget: Time and cost budget of this attempt.
        kill_monitor: Counts the processes that were killed for memory.
        report_status: Receives a phrase that says what the run waits for.
    """

    def __init__(
        self,
        setup: RunSetup,
        cluster: Cluster,
        budget: RunBudget,
        kill_monitor: OomKillMonitor,
        report_status: Callable[[str], None],
    ) -> None:
        self._setup, self._compute = setup, setup.request.compute
        self._budget, self._kill_monitor, self._report_status = budget, kill_monitor, report_status
        self._is_first_result_pending = True  # in this attempt
        self._was_ended_early = self._must_recut = False
        self.has_stalled = False
        self._allocate(cluster)

    def _allocate(self, cluster: Cluster) -> None:
        self.cluster, self.resource_plan = cluster, self._plan_resources(cluster)
        self._cluster_monitor = ClusterMonitor(cluster, self._compute)

    def _plan_resources(self, cluster: Cluster) -> ResourcePlan:
        """Allocate the resources of a cluster."""
        setup = self._setup
        return allocate_resources(cluster, self._compute, setup.request.models, setup.rows, setup.certificate)

    def _stream_blocks(
        self, units: Sequence[RowUnit], max_lost_units: int, stalled_after: float
    ) -> Generator[BlockBundle]:
        """Stream units through the stages; see `stream_predicted_blocks`."""
        from cvbatch.engine.dataflow import stream_predicted_blocks

        return stream_predicted_blocks(
            self._setup.output,
            units,
            make_predict_options(self._setup.output, self._setup.request, self.resource_plan),
            self.resource_plan,
            max_lost_units=max_lost_units,
            stalled_after=stalled_after,
            should_stop=self._ends_early,
        )

    def _iter_isolated(self, units: Sequence[RowUnit]) -> Iterator[tuple[RowUnit, pa.Table | RowError]]:
        """Take each unit through the stages in a process of its own; see `predict_isolated`."""
        from cvbatch.engine.ray_tasks import predict_isolated

        options = make_predict_options(self._setup.output, self._setup.request, self.resource_plan)
        return predict_isolated(
            self._setup.output, units, options.on_host(), self.resource_plan, self._compute.stalled_after
        )

    @property
    def tuning_result(self) -> TuningResult:
        """See `Engine`."""
        return self._setup.certificate

    @property
    def unit_rows(self) -> int:
        """See `Engine`."""
        return self.resource_plan.unit_rows

    @property
    def time_is_up(self) -> bool:
        """See `Engine`."""
        return self._budget.exceeded_limit

    def nodes(self) -> tuple[ClusterNode, ...]:
        """See `Engine`."""
        return self._cluster_monitor.latest.nodes

    def rebalance(self) -> bool:
        """See `Engine`."""
        is_due, must_recut = self._was_ended_early or self._cluster_monitor.should_rebalance, self._must_recut
        self._was_ended_early = self._must_recut = False
        if not is_due:
            return must_recut
        on_gpu = self.resource_plan.device == "cuda"
        cluster = wait_for_workers(self._cluster_monitor.latest, self._compute, gpu=on_gpu, everywhere=True)
        self._budget.update_cost(self._compute, len(cluster.nodes))
        self._allocate(cluster)
        return True

    def run_units(self, units: Sequence[RowUnit], epoch: int, *, max_lost_units: int) -> Iterator[list[WriteResult]]:
        """See `Engine`."""
        from ray.data.exceptions import ExecutionTimeoutError
        from ray.exceptions import ActorUnavailableError, NodeDiedError, ObjectLostError, RayError

        _release_actors()
        self._report_status(_FIRST_IMAGES if self._is_first_result_pending else _NEXT_IMAGES)
        self._kill_monitor.note_progress()
        stalled_after = self._compute.stalled_after * (STALL_GRACE_FACTOR if self.has_stalled else 1.0)
        error_capture, self.has_stalled, has_results = RayErrorCapture(), False, False
        try:
            with (
                error_capture.capture_errors(),
                closing(self._run_wave(units, epoch, max_lost_units, stalled_after)) as wave,
            ):
                for written in filter(None, wave):
                    self._is_first_result_pending, has_results = False, True
                    self._kill_monitor.note_progress()
                    yield written
        except ExecutionTimeoutError:
            self.has_stalled = True
        except (ActorUnavailableError, NodeDiedError, ObjectLostError) as error:
            # a node was lost, and units sent to it before Ray noticed failed at once: the images are not the cause
            if not has_results:
                raise to_cvbatch_error(error) from None
            self._must_recut = True
        except (RayError, OSError) as error:
            raise to_cvbatch_error(error) from None
        if self._is_first_result_pending and self._kill_monitor.kills_too_often:
            raise self._kill_monitor.halt_error()
        if error_capture.last is not None and not is_system_failure(error_capture.last):
            raise to_cvbatch_error(error_capture.last)

    def _run_wave(
        self, units: Sequence[RowUnit], epoch: int, max_lost_units: int, stalled_after: float
    ) -> Generator[list[WriteResult]]:
        """Yield the files of one wave once they are written; errors of Ray pass through."""
        from cvbatch.engine.file_writer import iter_written_files
        from cvbatch.engine.ray_tasks import FileWriters

        predicted = self._stream_blocks(units, max_lost_units, stalled_after)
        with closing(FileWriters(self._write_context(epoch), self.resource_plan, local=self.cluster.local)) as writers:
            yield from iter_written_files(predicted, writers, write_first_now=self._is_first_result_pending)

    def _ends_early(self) -> bool:
        # not before the first result: the next attempt would stop there, too, and the run would never advance
        time_is_up = self.time_is_up and not self._is_first_result_pending
        # stored, because after a further change the monitor may answer no, when the wave has already ended
        self._was_ended_early = self._cluster_monitor.should_rebalance
        return time_is_up or self._was_ended_early or self._kill_monitor.kills_too_often

    def run_isolated(self, units: Sequence[RowUnit], epoch: int) -> Iterator[list[WriteResult]]:
        """See `Engine`."""
        from ray.exceptions import RayError

        _release_actors()
        context, blocks, results = self._write_context(epoch), list[pa.Table](), self._iter_isolated(units)
        rows_of, is_first_work = partial(read_unit_rows, self._setup.output), self._is_first_result_pending
        try:
            for block in separate_oom_victims(results, rows_of, self._setup.schema, self._kill_monitor, is_first_work):
                blocks.append(block)
                if len(blocks) == _ISOLATED_PER_FILE or self.time_is_up:
                    yield [write_data_files(context, blocks)]
                    blocks = []
                if self.time_is_up:
                    return
        except RayError as error:
            raise to_cvbatch_error(error) from None
        if blocks:
            yield [write_data_files(context, blocks)]

    def copy_rows(self, files: Sequence[DataFile], without: RowRanges, epoch: int) -> tuple[DataFile, ...]:
        """See `Engine`."""
        return copy_unchanged_rows(self._write_context(epoch), files, without)

    def _write_context(self, epoch: int) -> WriteContext:
        return WriteContext(self._setup.output, epoch, self._setup.schema)


def _release_actors() -> None:
    """Release the actors of the last pass and their resources: the traceback of a failure may still refer to them."""
    gc.collect()
