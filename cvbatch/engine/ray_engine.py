"""What a start needs of Ray: begun in the background, sized, and fed with units."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from types import TracebackType
from typing import Final

import pyarrow as pa

from cvbatch.config.compute import ComputeConfig
from cvbatch.config.job import Job
from cvbatch.engine.budget import Limits
from cvbatch.engine.choose_settings import setting_of_run
from cvbatch.engine.memory import own_store
from cvbatch.engine.nodes import Changes, Cluster, Node, with_workers, within_reach
from cvbatch.engine.oom_kills import KillWatch, told_apart
from cvbatch.engine.ray_errors import Complaints, is_system_failure, plain
from cvbatch.engine.resource_plan import Pools, predict_options, size_pools
from cvbatch.engine.startup import Startup
from cvbatch.engine.weight_transfer import TransferredWeights
from cvbatch.errors import RunError
from cvbatch.models.resolve import check_aliases, needs_probe
from cvbatch.models.spec import ModelSpec, described, rows_schema
from cvbatch.output.data_files import WriteJob, Written, copy_rows, write_blocks
from cvbatch.output.log_records import DataFile, State
from cvbatch.output.row_ranges import RowRanges
from cvbatch.output.store import open_store
from cvbatch.planning.plan import Plan, all_parts
from cvbatch.planning.units import Unit, first_samples, read_sample, read_unit
from cvbatch.sources.fetch.plan_rows import check_access
from cvbatch.stages.watchdog import OUTLIVES
from cvbatch.storage.location import Place, is_object_uri
from cvbatch.tuning.certificate import Certificate
from cvbatch.tuning.request import Asked

_ALONE_PER_FILE: Final = 64
_AT_FIRST: Final = "loading the models and working on the first images"


class Engine:
    """Ray and the three stages that run in it.

    Args:
        output: Where the run is.
        models: Of the job; they must fit the memory that there is.
        compute: How long Ray may take to start.
        pythonpath: Folder that the workers can import from, besides what is installed.
    """

    def __init__(
        self, output: Place, models: Sequence[ModelSpec], compute: ComputeConfig, pythonpath: str | None = None
    ) -> None:
        self._output = output
        self._startup = Startup(pythonpath, compute.ray_start_timeout, own_store(models, compute))
        self._kills = KillWatch(models)
        self._limits = Limits()
        self._first = True
        self._ended_early = self._again = self.stalled = False
        self._compute = ComputeConfig()
        self._changes: Changes | None = None
        self.cluster: Cluster | None = None
        self.pools: Pools | None = None
        self.certificate: Certificate | None = None
        self.unit_rows = 1
        self.doing: Callable[[str], None] = lambda _: None  # told what is waited for

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._startup.stop()
        if type(error) is RunError and self._kills.in_a_row:
            raise self._kills.error() from None

    def probe(self, models: Sequence[ModelSpec], compute: ComputeConfig) -> tuple[ModelSpec, ...]:
        """Load the models that only loading can describe, in a worker, and fill in what they say.

        Args:
            models: Of the job.
            compute: How long to wait for a node that can do it.

        Raises:
            ModelError: If one cannot be loaded or does not fit its categories.
            HaltError: If no node came that could work.
        """
        if not any(map(needs_probe, models)):
            return tuple(models)
        cluster = self.connect(compute)
        from ray.exceptions import RayError

        from cvbatch.engine.tasks import probe_models

        try:
            self.doing("loading the models")
            probed = probe_models(models, TransferredWeights.of(filter(needs_probe, models), local=cluster.local))
        except RayError as error:
            raise plain(error) from None
        check_aliases(probed)
        return probed

    def connect(self, compute: ComputeConfig) -> Cluster:
        """Wait for Ray, and for a node that can work; returns what there is to work with.

        Raises:
            HaltError: If none came.
        """
        waits = compute.wait_for_nodes is not None
        gpu = waits and compute.device == "cuda"
        return with_workers(self._startup.ready(), compute, gpu=gpu, everywhere=waits)

    def prepare(self, models: Sequence[ModelSpec], plan: Plan, state: State, job: Job, *, rows: int) -> None:
        """Wait for Ray, choose the setting and share the cluster out.

        Args:
            models: Complete.
            plan: Of the run.
            state: Of its log.
            job: What was asked for.
            rows: Images to go.

        Raises:
            SourceError: If no object of the source may be read.
            UsageError: If the job cannot run on this cluster.
            HaltError: If no node came that could work.
        """
        import cvbatch.engine.dataflow  # noqa: F401 - takes a second, in which Ray starts

        self.cluster = self.connect(job.compute)
        job = within_reach(self.cluster, job)
        self._compute = job.compute
        self._limits.go_on(self._compute, len(self.cluster.nodes))
        asked = Asked.of(job, models, TransferredWeights.of(models, local=self.cluster.local))
        store, parts = open_store(self._output), all_parts(plan, state)
        sample = partial(read_sample, store, parts)
        if any(map(is_object_uri, job.source.uris)):  # one part and one image will do, as a rule
            check_access(first_samples(store, parts), job.source.reach)
        self.doing("choosing how the models run")
        self.certificate = setting_of_run(store, asked, self.cluster, rows, sample)
        self._asked, self._rows = asked, rows
        self._share_out()
        source = job.source
        schema = rows_schema(models, exif=source.exif, warnings=source.keeps_damaged, carried=plan.carried(store))
        self._schema = described(schema, models, self.certificate.setting.precision)

    def resize(self) -> bool:
        """Share the cluster out anew if it has changed; whether to cut what is left anew.

        Raises:
            HaltError: If there is no node left that could work, and none came.
        """
        assert self._changes is not None, "prepare comes first"
        assert self.pools is not None, "prepare comes first"
        due, again = self._ended_early or self._changes.worth_it, self._again
        self._ended_early = self._again = False
        if not due:
            return again
        on_gpu = self.pools.device == "cuda"
        self.cluster = with_workers(self._changes.latest, self._compute, gpu=on_gpu, everywhere=True)
        self._limits.go_on(self._compute, len(self.cluster.nodes))
        self._share_out()
        return True

    def nodes(self) -> tuple[Node, ...]:
        """The nodes as they were last seen."""
        return self._changes.latest.nodes if self._changes is not None else ()

    def _share_out(self) -> None:
        assert self.cluster is not None, "it is connected"
        assert self.certificate is not None, "it is chosen"
        asked = self._asked
        pools = size_pools(self.cluster, asked.compute, asked.models, self._rows, self.certificate)
        self._options = predict_options(self._output, asked, pools)
        self.pools, self.unit_rows = pools, pools.unit_rows
        self._changes = Changes(self.cluster, self._compute)

    def label(self, units: Sequence[Unit], epoch: int, *, tolerated: int) -> Iterator[list[Written]]:
        """Decode, predict and write some units; yields files once they are written.

        Units that were lost with the processes that worked on them, or that have not moved for long, are simply
        not among them.

        Args:
            units: What to work on.
            epoch: Of this start.
            tolerated: How many lost units are no reason to stop.

        Raises:
            RunError: If the stages cannot go on.
        """
        from ray.data.exceptions import ExecutionTimeoutError
        from ray.exceptions import ActorUnavailableError, NodeDiedError, ObjectLostError, RayError

        from cvbatch.engine.dataflow import predicted_blocks
        from cvbatch.engine.file_writer import written_files
        from cvbatch.engine.tasks import Writers

        assert self.cluster is not None, "prepare comes first"
        assert self.pools is not None, "prepare comes first"
        _release_actors()
        self.doing(_AT_FIRST if self._first else "working on the next images")
        complaints, moved = Complaints(), False
        self._kills.done()
        stalled_after, self.stalled = self._compute.stalled_after * (OUTLIVES if self.stalled else 1.0), False
        try:
            with complaints.heard():
                predicted = predicted_blocks(
                    self._output,
                    units,
                    self._options,
                    self.pools,
                    tolerated=tolerated,
                    stalled_after=stalled_after,
                    over=self._ends_early,
                )
                job, local = WriteJob(self._output, epoch, self._schema), self.cluster.local
                with closing(Writers(job, self.pools, local=local)) as writers:
                    for written in written_files(predicted, writers, early=self._first):
                        self._first, moved = False, moved or bool(written)
                        self._kills.done()
                        yield written
        except ExecutionTimeoutError:
            self.stalled = True
            if self._first:
                raise RunError(
                    f"nothing was predicted within {stalled_after:.0f} s; look at the cluster, or raise "
                    "compute.stalled_after"
                ) from None
        except (ActorUnavailableError, NodeDiedError, ObjectLostError) as error:
            # a node went, and what was sent to it before that was known failed at once: it is not the images
            if not moved:
                raise plain(error) from None
            self._again = True
        except (RayError, OSError) as error:
            raise plain(error) from None
        if self._first and self._kills.too_often:
            raise self._kills.error()
        if complaints.last is not None and not is_system_failure(complaints.last):
            raise plain(complaints.last)

    def label_alone(self, units: Sequence[Unit], epoch: int) -> Iterator[list[Written]]:
        """Label images one by one, each in a process of its own; what takes that along, too, is an error row.

        Args:
            units: Of one row each.
            epoch: Of this start.

        Raises:
            RunError: If it fails for a reason of its own.
        """
        from ray.exceptions import RayError

        from cvbatch.engine.tasks import predict_alone

        assert self.pools is not None, "prepare comes first"
        _release_actors()
        job, blocks = WriteJob(self._output, epoch, self._schema), list[pa.Table]()
        answers = predict_alone(self._output, units, self._options.on_host(), self.pools, self._compute.stalled_after)
        try:
            for block in told_apart(answers, partial(read_unit, self._output), self._schema, self._kills, self._first):
                blocks.append(block)
                if len(blocks) == _ALONE_PER_FILE or self.time_is_up:
                    yield [write_blocks(job, blocks)]
                    blocks = []
                if self.time_is_up:
                    return
        except RayError as error:
            raise plain(error) from None
        if blocks:
            yield [write_blocks(job, blocks)]

    def copy(self, files: Sequence[DataFile], without: RowRanges, epoch: int) -> tuple[DataFile, ...]:
        """Copy the rows of committed files that stay; see `copy_rows`."""
        return copy_rows(WriteJob(self._output, epoch, self._schema), files, without)

    def _ends_early(self) -> bool:
        time_is_up = self.time_is_up and not self._first  # a start that gets nowhere would do so again
        # kept, because a further change might make waiting the better choice again, and the wave has ended by then
        self._ended_early = self._changes is not None and self._changes.worth_it
        return time_is_up or self._ended_early or self._kills.too_often

    @property
    def time_is_up(self) -> bool:
        """Whether this start has worked for as long, or cost as much, as it may."""
        return self._limits.reached


def _release_actors() -> None:
    """Give up the actors of the last pass: the traceback of a failure may hold them, and their share."""
    gc.collect()
