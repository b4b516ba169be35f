"""An engine without Ray: real units of the plan become real files, with made-up predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from cvbatch.config.compute import ComputeConfig
from cvbatch.config.job import Job
from cvbatch.engine.nodes import Cluster, ClusterNode
from cvbatch.engine.resource_plan import ResourcePlan, allocate_resources
from cvbatch.errors import RowError, RunError
from cvbatch.inference.settings import REFERENCE
from cvbatch.models.resolve import needs_probe
from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.data_files import WriteContext, WriteResult, copy_unchanged_rows, write_data_files
from cvbatch.output.log_records import DataFile, RunState
from cvbatch.output.row_ranges import RowRange, RowRanges
from cvbatch.planning.plan import Plan
from cvbatch.planning.units import RowUnit, read_unit_rows
from cvbatch.schema import WORKER
from cvbatch.storage.location import Location
from cvbatch.tuning.certificate import TuningResult
from tests.samples import FAILED, block, spec

DIED = RowError("predict", "ProcessDied", "the process that worked on this image died each time")


CLUSTER = Cluster((ClusterNode("10.0.0.1", 4),), local=True, object_store_bytes=1 << 30)


@dataclass(frozen=True)
class Call:
    """One request to the engine."""

    units: list[RowRange]
    max_lost_units: int | None
    """None if each image was a unit of its own."""

    @property
    def rows(self) -> list[int]:
        return [row for low, high in self.units for row in range(low, high)]


class FakeEngine:
    """Both an `Engine` and a `StartingEngine` that answers for the stages; a row's label is the epoch that computed it.

    Args:
        output: The output.
        unit_rows: Most rows of a unit.
    """

    def __init__(self, output: Location | str, unit_rows: int = 8) -> None:
        self._output = Location.from_path_or_uri(output)
        self._models: Sequence[ModelSpec] = [spec()]
        self.cluster = CLUSTER
        self.tuning_result = TuningResult(REFERENCE, "")
        self.resource_plan: ResourcePlan = allocate_resources(CLUSTER, ComputeConfig(), [spec()], 1, self.tuning_result)
        self.unit_rows = unit_rows
        self.calls: list[Call] = []
        self.copied: list[str] = []
        self.failed: set[int] = set()
        """Rows that become error rows, with this error."""
        self.error = FAILED
        self.deadly: set[int] = set()
        """Rows that kill the process that works on them."""
        self.hanging: set[int] = set()
        """Rows without an answer; the units after the first of them are not started."""
        self.has_stalled = False
        self.after_unit: Callable[[], object] = lambda: None
        """Called when the file of a unit is accepted."""
        self.over = False
        self.grows_to: int | None = None
        """Rows of a unit from the next look at the cluster on."""

    def change(self, parts: Mapping[str, object]) -> None:
        """Put other values or methods in the place of those that it has, by name."""
        for name, value in parts.items():
            assert hasattr(self, name), f"an engine has no {name}"
            setattr(self, name, value)

    @property
    def time_is_up(self) -> bool:
        return self.over

    @property
    def computed(self) -> list[int]:
        """All requested rows, with repetitions."""
        return [row for call in self.calls for row in call.rows]

    def probe_models(self, models: Sequence[ModelSpec], compute: ComputeConfig) -> tuple[ModelSpec, ...]:
        return tuple(spec() if needs_probe(model) else model for model in models)

    def prepare_engine(
        self, models: Sequence[ModelSpec], plan: Plan, state: RunState, job: Job, *, rows: int
    ) -> FakeEngine:
        self._models = models
        return self

    def rebalance(self) -> bool:
        if self.grows_to is None:
            return False
        self.unit_rows, self.grows_to = self.grows_to, None
        return True

    def nodes(self) -> tuple[ClusterNode, ...]:
        return self.cluster.nodes

    def run_units(self, units: Sequence[RowUnit], epoch: int, *, max_lost_units: int) -> Iterator[list[WriteResult]]:
        self.calls.append(Call([(unit.low, unit.high) for unit in units], max_lost_units))
        lost, self.has_stalled = 0, False
        for unit in units:
            if self.hanging & set(range(unit.low, unit.high)):
                self.has_stalled = True
                return
            if self.deadly & set(range(unit.low, unit.high)):
                lost += 1
                if lost > max_lost_units:
                    raise RunError("the run stopped: a process died; run the same command to resume")
                continue
            yield [write_data_files(self._job(epoch), [self._rows(unit, epoch)])]
            self.after_unit()
            if self.over or self.grows_to is not None:
                return

    def run_isolated(self, units: Sequence[RowUnit], epoch: int) -> Iterator[list[WriteResult]]:
        self.calls.append(Call([(unit.low, unit.high) for unit in units], None))
        yield [write_data_files(self._job(epoch), [self._rows(unit, epoch) for unit in units])]

    def copy_rows(self, files: Sequence[DataFile], without: RowRanges, epoch: int) -> tuple[DataFile, ...]:
        self.copied += [file.path for file in files]
        return copy_unchanged_rows(self._job(epoch), files, without)

    def _job(self, epoch: int) -> WriteContext:
        return WriteContext(self._output, epoch, rows_schema(self._models))

    def _rows(self, unit: RowUnit, epoch: int) -> pa.Table:
        ids = range(unit.low, unit.high)
        labels = [None if row in self.failed | self.deadly | self.hanging else f"epoch {epoch}" for row in ids]
        failed, error = self.failed, self.error
        if dead := (self.deadly | self.hanging) & set(ids):
            failed, error = dead, DIED
        uris = read_unit_rows(self._output, unit)["image_uri"].to_pylist()
        rows = block(
            unit.low, unit.high, *self._models, failed=failed, error=error, classification_label=labels, image_uri=uris
        )
        return rows.append_column(WORKER, pa.repeat(pa.scalar('{"pid": 1}'), rows.num_rows))
