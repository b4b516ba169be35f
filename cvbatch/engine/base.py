"""Interface of an engine. A run depends on this module and not on Ray.

An engine has two steps, so that no method can be called too early: a starting engine can load models, and only an
engine that is prepared for a plan can process units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
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
from cvbatch.storage.location import Location
from cvbatch.tuning.certificate import TuningResult


class Engine(Protocol):
    """Computes rows of one plan during one run attempt."""

    @property
    def cluster(self) -> Cluster:
        """Cluster at the time of the last resource allocation."""

    @property
    def resource_plan(self) -> ResourcePlan:
        """Resources of each stage in that cluster."""

    @property
    def tuning_result(self) -> TuningResult:
        """Settings of the run and the measurements behind them."""

    @property
    def unit_rows(self) -> int:
        """Maximum rows of a unit under the current resource plan."""

    @property
    def has_stalled(self) -> bool:
        """Whether the last wave was given up for lack of progress."""

    @property
    def time_is_up(self) -> bool:
        """Whether this attempt has used up its time or cost budget."""

    def nodes(self) -> tuple[ClusterNode, ...]:
        """Nodes at the time of the last check."""

    def run_units(self, units: Sequence[RowUnit], epoch: int, *, max_lost_units: int) -> Iterator[list[WriteResult]]:
        """Decode, predict and write one wave of units; yield files once they are written.

        The files lack units that were lost with their process or that stalled, and units that were not started before
        the wave ended early because the budget was used up or the cluster changed.

        Args:
            units: Units of the wave.
            epoch: Of this attempt.
            max_lost_units: The run stops when more units than this are lost.

        Raises:
            RunError: If the stages cannot go on.
        """

    def run_isolated(self, units: Sequence[RowUnit], epoch: int) -> Iterator[list[WriteResult]]:
        """Label images one by one, each in its own process; an image that kills its process becomes an error row.

        Args:
            units: Of one row each.
            epoch: Of this attempt.

        Raises:
            RunError: If the failure is not caused by an image.
        """

    def copy_rows(self, files: Sequence[DataFile], without: RowRanges, epoch: int) -> tuple[DataFile, ...]:
        """Copy rows of committed files into files of this attempt.

        Args:
            files: Committed files.
            without: Rows to leave out.
            epoch: Of this attempt.
        """

    def rebalance(self) -> bool:
        """Allocate resources again if the cluster has changed; return whether to cut the remaining rows again.

        Raises:
            HaltError: If no usable node is left and none joins in time.
        """


class StartingEngine(Protocol):
    """An engine that is still starting."""

    def probe_models(self, models: Sequence[ModelSpec], compute: ComputeConfig) -> tuple[ModelSpec, ...]:
        """Load models in a worker where only loading reveals their properties, and complete their specs.

        Args:
            models: Of the job.
            compute: Says how long to wait for a usable node.

        Raises:
            ModelError: If a model cannot be loaded or does not fit its categories.
            HaltError: If no usable node joins in time.
        """

    def prepare_engine(
        self, models: Sequence[ModelSpec], plan: Plan, state: RunState, job: Job, *, rows: int
    ) -> Engine:
        """Wait for the engine, choose the settings and allocate the cluster's resources.

        Args:
            models: Complete specs.
            plan: Of the run.
            state: Of its log.
            job: The requested job.
            rows: Number of remaining images.

        Raises:
            SourceError: If no object of the source can be read.
            UsageError: If the job cannot run on this cluster.
            HaltError: If no usable node joins in time.
        """


class StartEngine(Protocol):
    """Starts an engine; see `engine.starting_ray.start_ray`."""

    def __call__(
        self,
        output: Location,
        models: Sequence[ModelSpec],
        compute: ComputeConfig,
        pythonpath: str | None,
        report_status: Callable[[str], None],
        /,
    ) -> AbstractContextManager[StartingEngine]:
        """Start it; the end of the block stops it."""
