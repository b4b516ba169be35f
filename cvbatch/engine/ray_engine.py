"""The engine that runs on Ray: waves of units, images one by one, and a cluster that changes meanwhile."""

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
from cvbatch.engine.resource_plan import allocate_resources, make_predict_options
from cvbatch.output.data_files import WriteContext, WriteResult, copy_unchanged_rows, write_data_files
from cvbatch.output.log_records import DataFile
from cvbatch.output.row_ranges import RowRanges
from cvbatch.planning.units import RowUnit, read_unit_rows
from cvbatch.stages.watchdog import STALL_GRACE_FACTOR
from cvbatch.storage.location import Location
from cvbatch.tuning.certificate import TuningResult
from cvbatch.tuning.request import TuningRequest

_ISOLATED_PER_FILE: Final = 64
_FIRST_IMAGES: Final = "loading the models and working on the first images"
_NEXT_IMAGES: Final = "working on the next images"


@dataclass(frozen=True, slots=True)
class RunSetup:
    """What stays the same in an attempt, however often the cluster changes."""

    output: Location
    asked: TuningRequest
    certificate: TuningResult
    schema: pa.Schema
    """Of the rows."""
    rows: int
    """Images to go."""


class RayEngine:
    """An `Engine`; Ray is connected, and a `prepare` made it.

    Args:
        setup: What stays the same.
        cluster: As it is now.
        limits: Time and cost that this attempt may take.
        kills: Counts the processes that were killed for memory.
        doing: Told in words what is waited for.
    """

    def __init__(
        self, setup: RunSetup, cluster: Cluster, limits: RunBudget, kills: OomKillMonitor, doing: Callable[[str], None]
    ) -> None:
        self._setup, self._compute = setup, setup.asked.compute
        self._limits, self._kills, self._doing = limits, kills, doing
        self._nothing_came = True  # in this attempt
        self._ended_early = self._must_cut_anew = False
        self.has_stalled = False
        self._share_out(cluster)

    def _share_out(self, cluster: Cluster) -> None:
        setup = self._setup
        self._limits.update_cost(self._compute, len(cluster.nodes))
        self.cluster = cluster
        self.resource_plan = allocate_resources(
            cluster, self._compute, setup.asked.models, setup.rows, setup.certificate
        )
        self._options = make_predict_options(setup.output, setup.asked, self.resource_plan)
        self._changes = ClusterMonitor(cluster, self._compute)

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
        return self._limits.exceeded_limit

    def nodes(self) -> tuple[ClusterNode, ...]:
        """See `Engine`."""
        return self._changes.latest.nodes

    def rebalance(self) -> bool:
        """See `Engine`."""
        is_due, must_cut_anew = self._ended_early or self._changes.should_rebalance, self._must_cut_anew
        self._ended_early = self._must_cut_anew = False
        if not is_due:
            return must_cut_anew
        on_gpu = self.resource_plan.device == "cuda"
        self._share_out(wait_for_workers(self._changes.latest, self._compute, gpu=on_gpu, everywhere=True))
        return True

    def run_units(self, units: Sequence[RowUnit], epoch: int, *, max_lost_units: int) -> Iterator[list[WriteResult]]:
        """See `Engine`."""
        from ray.data.exceptions import ExecutionTimeoutError
        from ray.exceptions import ActorUnavailableError, NodeDiedError, ObjectLostError, RayError

        _release_actors()
        self._doing(_FIRST_IMAGES if self._nothing_came else _NEXT_IMAGES)
        self._kills.note_progress()
        stalled_after = self._compute.stalled_after * (STALL_GRACE_FACTOR if self.has_stalled else 1.0)
        complaints, self.has_stalled, some_came = RayErrorCapture(), False, False
        try:
            with (
                complaints.capture_errors(),
                closing(self._run_wave(units, epoch, max_lost_units, stalled_after)) as wave,
            ):
                for written in filter(None, wave):
                    self._nothing_came, some_came = False, True
                    self._kills.note_progress()
                    yield written
        except ExecutionTimeoutError:
            self.has_stalled = True
        except (ActorUnavailableError, NodeDiedError, ObjectLostError) as error:
            # a node went, and what was sent to it before that was known failed at once: it is not the images
            if not some_came:
                raise to_cvbatch_error(error) from None
            self._must_cut_anew = True
        except (RayError, OSError) as error:
            raise to_cvbatch_error(error) from None
        if self._nothing_came and self._kills.is_too_often:
            raise self._kills.halt_error()
        if complaints.last is not None and not is_system_failure(complaints.last):
            raise to_cvbatch_error(complaints.last)

    def _run_wave(
        self, units: Sequence[RowUnit], epoch: int, max_lost_units: int, stalled_after: float
    ) -> Generator[list[WriteResult]]:
        """Files of one wave, once they are written; fails as Ray does."""
        from cvbatch.engine.dataflow import stream_predicted_blocks
        from cvbatch.engine.file_writer import iter_written_files
        from cvbatch.engine.tasks import FileWriters

        predicted = stream_predicted_blocks(
            self._setup.output,
            units,
            self._options,
            self.resource_plan,
            max_lost_units=max_lost_units,
            stalled_after=stalled_after,
            should_stop=self._ends_early,
        )
        with closing(FileWriters(self._write_job(epoch), self.resource_plan, local=self.cluster.local)) as writers:
            yield from iter_written_files(predicted, writers, early=self._nothing_came)

    def _ends_early(self) -> bool:
        time_is_up = self.time_is_up and not self._nothing_came  # an attempt that gets nowhere would do so again
        # kept, because a further change might make waiting the better choice again, and the wave has ended by then
        self._ended_early = self._changes.should_rebalance
        return time_is_up or self._ended_early or self._kills.is_too_often

    def run_isolated(self, units: Sequence[RowUnit], epoch: int) -> Iterator[list[WriteResult]]:
        """See `Engine`."""
        from ray.exceptions import RayError

        from cvbatch.engine.tasks import predict_isolated

        _release_actors()
        output, job, blocks = self._setup.output, self._write_job(epoch), list[pa.Table]()
        answers = predict_isolated(
            output, units, self._options.on_host(), self.resource_plan, self._compute.stalled_after
        )
        rows_of, first = partial(read_unit_rows, output), self._nothing_came
        try:
            for block in separate_oom_victims(answers, rows_of, self._setup.schema, self._kills, first):
                blocks.append(block)
                if len(blocks) == _ISOLATED_PER_FILE or self.time_is_up:
                    yield [write_data_files(job, blocks)]
                    blocks = []
                if self.time_is_up:
                    return
        except RayError as error:
            raise to_cvbatch_error(error) from None
        if blocks:
            yield [write_data_files(job, blocks)]

    def copy_rows(self, files: Sequence[DataFile], without: RowRanges, epoch: int) -> tuple[DataFile, ...]:
        """See `Engine`."""
        return copy_unchanged_rows(self._write_job(epoch), files, without)

    def _write_job(self, epoch: int) -> WriteContext:
        return WriteContext(self._setup.output, epoch, self._setup.schema)


def _release_actors() -> None:
    """Give up the actors of the last pass: the traceback of a failure may hold them, and their share."""
    gc.collect()
