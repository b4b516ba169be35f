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
from cvbatch.engine.model_passes import (
    LossLimit,
    ModelPass,
    describe_passes,
    plan_resources_of_passes,
    split_model_pass,
)
from cvbatch.engine.nodes import Cluster, ClusterMonitor, ClusterNode, wait_for_workers
from cvbatch.engine.oom_kills import OomKillMonitor, separate_oom_victims
from cvbatch.engine.ray_errors import RayErrorCapture, is_system_failure, to_cvbatch_error
from cvbatch.engine.resource_plan import ResourcePlan, make_predict_options
from cvbatch.errors import CvbatchError, NoMemoryForModelsError, RowError
from cvbatch.output.data_files import WriteContext, WriteResult, copy_unchanged_rows, write_data_files
from cvbatch.output.log_records import DataFile
from cvbatch.output.row_ranges import RowRanges
from cvbatch.planning.units import RowUnit, read_unit_rows
from cvbatch.stages.joining import join_answers
from cvbatch.stages.predict import PredictOptions
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
    passes: tuple[ModelPass, ...] = ()
    """Models that run beside each other; empty if all do."""


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
        self._passes = [setup.request.with_models(models) for models in setup.passes or (setup.request.models,)]
        self._failed_pass = 0
        self._allocate(cluster)

    def _allocate(self, cluster: Cluster) -> None:
        self.cluster, self.resource_plan = cluster, self._plan_resources(cluster)
        self._cluster_monitor = ClusterMonitor(cluster, self._compute)

    def _plan_resources(self, cluster: Cluster) -> ResourcePlan:
        """Allocate the resources of a cluster; of several passes this is the one with the smallest units."""
        self._pass_plans = plan_resources_of_passes(
            cluster, self._compute, [request.models for request in self._passes], self._setup.rows, self.tuning_result
        )
        return self._pass_plans[0]

    def _stream_blocks(
        self, units: Sequence[RowUnit], max_lost_units: int, stalled_after: float
    ) -> Generator[BlockBundle]:
        """Stream units through the stages; see `stream_predicted_blocks` and `stream_in_passes`."""
        from cvbatch.engine.pass_stream import stream_in_passes

        stream = partial(
            self._stream_pass,
            loss_limit=LossLimit(max_lost_units, len(units)),
            stalled_after=stalled_after,
        )
        if len(self._passes) == 1:
            return stream(units, index=0)
        return stream_in_passes(
            units,
            [partial(stream, index=index) for index in range(len(self._passes))],
            processes=self.resource_plan.num_actors,
            is_first=self._is_first_result_pending,
            local=self.cluster.local,
            should_stop=self._ends_early,
        )

    def _stream_pass(
        self, units: Sequence[RowUnit], index: int, loss_limit: LossLimit, stalled_after: float
    ) -> Generator[BlockBundle]:
        from cvbatch.engine.dataflow import stream_predicted_blocks

        self._failed_pass = index
        is_last = index == len(self._passes) - 1
        if not is_last:
            self._report_status(f"pass {index + 1} of {len(self._passes)} on the next images")
        return stream_predicted_blocks(
            self._setup.output,
            units,
            self._options_of_pass(index),
            self._pass_plans[index],
            max_lost_units=loss_limit.of_units(len(units)),
            stalled_after=stalled_after,
            should_stop=self._ends_early if is_last else self._ends_now,
        )

    def _options_of_pass(self, index: int) -> PredictOptions:
        return make_predict_options(self._setup.output, self._passes[index], self._pass_plans[index])

    def _iter_isolated(self, units: Sequence[RowUnit]) -> Iterator[tuple[RowUnit, pa.Table | RowError]]:
        """Take each unit through the stages in processes of its own, one for each pass; see `predict_isolated`."""
        from cvbatch.engine.ray_tasks import predict_isolated

        at_once = self.resource_plan.num_actors
        for some in (units[start : start + at_once] for start in range(0, len(units), at_once)):
            answers: dict[RowUnit, list[pa.Table | RowError]] = {unit: [] for unit in some}
            for index, pools in enumerate(self._pass_plans):
                options = self._options_of_pass(index).on_host()
                for unit, answer in predict_isolated(
                    self._setup.output, some, options, pools, self._compute.stalled_after
                ):
                    answers[unit].append(answer)
            for unit, answers_of_unit in answers.items():
                yield unit, join_answers(answers_of_unit)

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
            self._split_pass_or_raise(to_cvbatch_error(error))
            return
        if self._is_first_result_pending and self._kill_monitor.kills_too_often:
            raise self._kill_monitor.halt_error()
        if error_capture.last is not None and not is_system_failure(error_capture.last):
            self._split_pass_or_raise(to_cvbatch_error(error_capture.last))

    def _split_pass_or_raise(self, error: CvbatchError) -> None:
        """Split the models of the pass that ran last if there is no memory for all of them; their rows are cut again.

        Raises:
            CvbatchError: If that is not the reason, or there is a single network.
        """
        index, request = self._failed_pass, self._passes[self._failed_pass]
        parts = split_model_pass(request.models)
        if not isinstance(error, NoMemoryForModelsError) or len(parts) == 1:
            raise error from None
        self._passes[index : index + 1] = [request.with_models(models) for models in parts]
        self._report_status(describe_passes([request.models for request in self._passes]))
        self._allocate(self.cluster)
        self._must_recut = True

    def _run_wave(
        self, units: Sequence[RowUnit], epoch: int, max_lost_units: int, stalled_after: float
    ) -> Generator[list[WriteResult]]:
        """Yield the files of one wave once they are written; errors of Ray pass through."""
        from cvbatch.engine.file_writer import iter_written_files
        from cvbatch.engine.pass_stream import writer_of_passes
        from cvbatch.engine.ray_tasks import FileWriters

        predicted = self._stream_blocks(units, max_lost_units, stalled_after)
        write = writer_of_passes(len(self._passes))
        with closing(
            FileWriters(self._write_context(epoch), self.resource_plan, local=self.cluster.local, write=write)
        ) as writers:
            yield from iter_written_files(predicted, writers, write_first_now=self._is_first_result_pending)

    def _ends_now(self) -> bool:
        # not before the first result: the next attempt would stop there, too, and the run would never advance
        time_is_up = self.time_is_up and not self._is_first_result_pending
        return time_is_up or self._kill_monitor.kills_too_often

    def _ends_early(self) -> bool:
        # stored, because after a further change the monitor may answer no, when the wave has already ended
        self._was_ended_early = self._cluster_monitor.should_rebalance
        return self._was_ended_early or self._ends_now()

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
