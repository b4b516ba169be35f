"""The engine that runs on Ray: waves of units, images one by one, and a cluster that changes meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Final

import pyarrow as pa

from cvbatch.engine.budget import Limits
from cvbatch.engine.nodes import Changes, Cluster, Node, with_workers
from cvbatch.engine.oom_kills import KillWatch, told_apart
from cvbatch.engine.ray_errors import Complaints, is_system_failure, plain
from cvbatch.engine.resource_plan import predict_options, size_pools
from cvbatch.output.data_files import WriteJob, Written, copy_rows, write_blocks
from cvbatch.output.log_records import DataFile
from cvbatch.output.row_ranges import RowRanges
from cvbatch.planning.units import Unit, read_unit
from cvbatch.stages.watchdog import OUTLIVES
from cvbatch.storage.location import Place
from cvbatch.tuning.certificate import Certificate
from cvbatch.tuning.request import Asked

_ISOLATED_PER_FILE: Final = 64
_FIRST_IMAGES: Final = "loading the models and working on the first images"
_NEXT_IMAGES: Final = "working on the next images"


@dataclass(frozen=True, slots=True)
class RunSetup:
    """What stays the same in an attempt, however often the cluster changes."""

    output: Place
    asked: Asked
    certificate: Certificate
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
        self, setup: RunSetup, cluster: Cluster, limits: Limits, kills: KillWatch, doing: Callable[[str], None]
    ) -> None:
        self._setup, self._compute = setup, setup.asked.compute
        self._limits, self._kills, self._doing = limits, kills, doing
        self._nothing_came = True  # in this attempt
        self._ended_early = self._must_cut_anew = False
        self.stalled = False
        self._share_out(cluster)

    def _share_out(self, cluster: Cluster) -> None:
        setup = self._setup
        self._limits.go_on(self._compute, len(cluster.nodes))
        self.cluster = cluster
        self.pools = size_pools(cluster, self._compute, setup.asked.models, setup.rows, setup.certificate)
        self._options = predict_options(setup.output, setup.asked, self.pools)
        self._changes = Changes(cluster, self._compute)

    @property
    def certificate(self) -> Certificate:
        """See `Engine`."""
        return self._setup.certificate

    @property
    def unit_rows(self) -> int:
        """See `Engine`."""
        return self.pools.unit_rows

    @property
    def time_is_up(self) -> bool:
        """See `Engine`."""
        return self._limits.reached

    def nodes(self) -> tuple[Node, ...]:
        """See `Engine`."""
        return self._changes.latest.nodes

    def rebalance(self) -> bool:
        """See `Engine`."""
        is_due, must_cut_anew = self._ended_early or self._changes.worth_it, self._must_cut_anew
        self._ended_early = self._must_cut_anew = False
        if not is_due:
            return must_cut_anew
        on_gpu = self.pools.device == "cuda"
        self._share_out(with_workers(self._changes.latest, self._compute, gpu=on_gpu, everywhere=True))
        return True

    def run_units(self, units: Sequence[Unit], epoch: int, *, max_lost_units: int) -> Iterator[list[Written]]:
        """See `Engine`."""
        from ray.data.exceptions import ExecutionTimeoutError
        from ray.exceptions import ActorUnavailableError, NodeDiedError, ObjectLostError, RayError

        _release_actors()
        self._doing(_FIRST_IMAGES if self._nothing_came else _NEXT_IMAGES)
        self._kills.done()
        stalled_after = self._compute.stalled_after * (OUTLIVES if self.stalled else 1.0)
        complaints, self.stalled, some_came = Complaints(), False, False
        try:
            with complaints.heard(), closing(self._wave(units, epoch, max_lost_units, stalled_after)) as wave:
                for written in filter(None, wave):
                    self._nothing_came, some_came = False, True
                    self._kills.done()
                    yield written
        except ExecutionTimeoutError:
            self.stalled = True
        except (ActorUnavailableError, NodeDiedError, ObjectLostError) as error:
            # a node went, and what was sent to it before that was known failed at once: it is not the images
            if not some_came:
                raise plain(error) from None
            self._must_cut_anew = True
        except (RayError, OSError) as error:
            raise plain(error) from None
        if self._nothing_came and self._kills.too_often:
            raise self._kills.error()
        if complaints.last is not None and not is_system_failure(complaints.last):
            raise plain(complaints.last)

    def _wave(
        self, units: Sequence[Unit], epoch: int, max_lost_units: int, stalled_after: float
    ) -> Generator[list[Written]]:
        """Files of one wave, once they are written; fails as Ray does."""
        from cvbatch.engine.dataflow import predicted_blocks
        from cvbatch.engine.file_writer import written_files
        from cvbatch.engine.tasks import Writers

        predicted = predicted_blocks(
            self._setup.output,
            units,
            self._options,
            self.pools,
            tolerated=max_lost_units,
            stalled_after=stalled_after,
            over=self._ends_early,
        )
        with closing(Writers(self._write_job(epoch), self.pools, local=self.cluster.local)) as writers:
            yield from written_files(predicted, writers, early=self._nothing_came)

    def _ends_early(self) -> bool:
        time_is_up = self.time_is_up and not self._nothing_came  # an attempt that gets nowhere would do so again
        # kept, because a further change might make waiting the better choice again, and the wave has ended by then
        self._ended_early = self._changes.worth_it
        return time_is_up or self._ended_early or self._kills.too_often

    def run_isolated(self, units: Sequence[Unit], epoch: int) -> Iterator[list[Written]]:
        """See `Engine`."""
        from ray.exceptions import RayError

        from cvbatch.engine.tasks import predict_alone

        _release_actors()
        output, job, blocks = self._setup.output, self._write_job(epoch), list[pa.Table]()
        answers = predict_alone(output, units, self._options.on_host(), self.pools, self._compute.stalled_after)
        rows_of, first = partial(read_unit, output), self._nothing_came
        try:
            for block in told_apart(answers, rows_of, self._setup.schema, self._kills, first):
                blocks.append(block)
                if len(blocks) == _ISOLATED_PER_FILE or self.time_is_up:
                    yield [write_blocks(job, blocks)]
                    blocks = []
                if self.time_is_up:
                    return
        except RayError as error:
            raise plain(error) from None
        if blocks:
            yield [write_blocks(job, blocks)]

    def copy_rows(self, files: Sequence[DataFile], without: RowRanges, epoch: int) -> tuple[DataFile, ...]:
        """See `Engine`."""
        return copy_rows(self._write_job(epoch), files, without)

    def _write_job(self, epoch: int) -> WriteJob:
        return WriteJob(self._setup.output, epoch, self._setup.schema)


def _release_actors() -> None:
    """Give up the actors of the last pass: the traceback of a failure may hold them, and their share."""
    gc.collect()
