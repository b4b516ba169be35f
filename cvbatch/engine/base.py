"""What a run needs of an engine. Whoever works on a run depends on this, and not on Ray.

An engine is had in two steps, so that nothing can be asked of it too early: one that is starting can load models, and
only one that was prepared for a plan can work on units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from cvbatch.config.compute import ComputeConfig
from cvbatch.config.job import Job
from cvbatch.engine.nodes import Cluster, ClusterNode
from cvbatch.engine.resource_plan import ResourcePlan
from cvbatch.models.spec import ModelSpec
from cvbatch.output.data_files import WriteResult
from cvbatch.output.log_records import DataFile, RunState
from cvbatch.output.row_ranges import RowRanges
from cvbatch.planning.plan import Plan
from cvbatch.planning.units import RowUnit
from cvbatch.tuning.certificate import TuningResult


class Engine(Protocol):
    """Computes rows of one plan, for one attempt of a run."""

    @property
    def cluster(self) -> Cluster:
        """What there was to work with when it was last shared out."""

    @property
    def resource_plan(self) -> ResourcePlan:
        """The shares of the stages in it."""

    @property
    def tuning_result(self) -> TuningResult:
        """The settings of the run, and why they are what they are."""

    @property
    def unit_rows(self) -> int:
        """Most rows of a unit, as the cluster is shared out now."""

    @property
    def has_stalled(self) -> bool:
        """Whether the last wave was given up because nothing moved any more."""

    @property
    def time_is_up(self) -> bool:
        """Whether this attempt has worked for as long, or cost as much, as it may."""

    def nodes(self) -> tuple[ClusterNode, ...]:
        """The nodes as they were last seen."""

    def run_units(self, units: Sequence[RowUnit], epoch: int, *, max_lost_units: int) -> Iterator[list[WriteResult]]:
        """Decode, predict and write some units, which are one wave; yields files once they are written.

        Units that were lost with the processes that worked on them, or that have not moved for long, are not among
        them; nor are those that were not begun when the wave was ended early, because time is up or the cluster has
        changed.

        Args:
            units: What to work on.
            epoch: Of this attempt.
            max_lost_units: With more lost units than that the run stops.

        Raises:
            RunError: If the stages cannot go on.
        """

    def run_isolated(self, units: Sequence[RowUnit], epoch: int) -> Iterator[list[WriteResult]]:
        """Label images one by one, each in a process of its own; one that takes its process along is an error row.

        Args:
            units: Of one row each.
            epoch: Of this attempt.

        Raises:
            RunError: If it fails for a reason of its own.
        """

    def copy_rows(self, files: Sequence[DataFile], without: RowRanges, epoch: int) -> tuple[DataFile, ...]:
        """Copy rows of committed files into files of this attempt.

        Args:
            files: Committed.
            without: Rows that are left out.
            epoch: Of this attempt.
        """

    def rebalance(self) -> bool:
        """Share the cluster out anew if it has changed; whether to cut the remaining rows into units anew.

        Raises:
            HaltError: If there is no node left that could work, and none came.
        """


class StartingEngine(Protocol):
    """An engine that is on its way."""

    def probe_models(self, models: Sequence[ModelSpec], compute: ComputeConfig) -> tuple[ModelSpec, ...]:
        """Load the models that only loading can describe, in a worker, and fill in what they say.

        Args:
            models: Of the job.
            compute: How long to wait for a node that can do it.

        Raises:
            ModelError: If one cannot be loaded or does not fit its categories.
            HaltError: If no node came that could work.
        """

    def prepare_engine(
        self, models: Sequence[ModelSpec], plan: Plan, state: RunState, job: Job, *, rows: int
    ) -> Engine:
        """Wait for the engine, choose the settings and share the cluster out.

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
