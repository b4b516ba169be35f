"""An engine without Ray: real units of the plan become real files, with made-up predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from cvbatch.config.compute import ComputeConfig
from cvbatch.config.job import Job
from cvbatch.engine.nodes import Cluster, Node
from cvbatch.engine.resource_plan import Pools, size_pools
from cvbatch.errors import RowError, RunError
from cvbatch.inference.settings import REFERENCE
from cvbatch.models.resolve import needs_probe
from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.data_files import WriteJob, Written, copy_rows, write_blocks
from cvbatch.output.log_records import DataFile, State
from cvbatch.output.row_ranges import Range, RowRanges
from cvbatch.planning.plan import Plan
from cvbatch.planning.units import Unit, read_unit
from cvbatch.schema import WORKER
from cvbatch.storage.location import Place
from cvbatch.tuning.certificate import Certificate
from tests.samples import FAILED, block, spec

DIED = RowError("predict", "ProcessDied", "the process that worked on this image died each time")


CLUSTER = Cluster((Node("10.0.0.1", 4),), local=True, object_store_bytes=1 << 30)


@dataclass(frozen=True)
class Call:
    """What the engine was asked for."""

    units: list[Range]
    max_lost_units: int | None
    """None where each image was to be alone."""

    @property
    def rows(self) -> list[int]:
        return [row for low, high in self.units for row in range(low, high)]


class FakeEngine:
    """Both an `Engine` and a `StartingEngine` that answers for the stages; a row's label is the epoch that computed it.

    Args:
        output: The output.
        unit_rows: Most rows of a unit.
    """

    def __init__(self, output: Place | str, unit_rows: int = 8) -> None:
        self._output = Place.at(output)
        self._models: Sequence[ModelSpec] = [spec()]
        self.cluster = CLUSTER
        self.certificate = Certificate(REFERENCE, "")
        self.pools: Pools = size_pools(CLUSTER, ComputeConfig(), [spec()], 1, self.certificate)
        self.unit_rows = unit_rows
        self.calls: list[Call] = []
        self.copied: list[str] = []
        self.failed: set[int] = set()
        """Rows that become error rows, with this error."""
        self.error = FAILED
        self.deadly: set[int] = set()
        """Rows that take the process along that works on them."""
        self.hanging: set[int] = set()
        """Rows of which no answer comes; the units behind the first one are not begun."""
        self.stalled = False
        self.after_unit: Callable[[], object] = lambda: None
        """Called once the file of a unit is taken in."""
        self.over = False
        self.grows_to: int | None = None
        """Rows of a unit from the next look at the cluster on."""

    @property
    def time_is_up(self) -> bool:
        return self.over

    @property
    def computed(self) -> list[int]:
        """Every row that was asked for, as often as it was."""
        return [row for call in self.calls for row in call.rows]

    def probe(self, models: Sequence[ModelSpec], compute: ComputeConfig) -> tuple[ModelSpec, ...]:
        return tuple(spec() if needs_probe(model) else model for model in models)

    def prepare(self, models: Sequence[ModelSpec], plan: Plan, state: State, job: Job, *, rows: int) -> FakeEngine:
        self._models = models
        return self

    def rebalance(self) -> bool:
        if self.grows_to is None:
            return False
        self.unit_rows, self.grows_to = self.grows_to, None
        return True

    def nodes(self) -> tuple[Node, ...]:
        return self.cluster.nodes

    def run_units(self, units: Sequence[Unit], epoch: int, *, max_lost_units: int) -> Iterator[list[Written]]:
        self.calls.append(Call([(unit.low, unit.high) for unit in units], max_lost_units))
        lost, self.stalled = 0, False
        for unit in units:
            if self.hanging & set(range(unit.low, unit.high)):
                self.stalled = True
                return
            if self.deadly & set(range(unit.low, unit.high)):
                lost += 1
                if lost > max_lost_units:
                    raise RunError("the run stopped: a process died; the same command goes on")
                continue
            yield [write_blocks(self._job(epoch), [self._rows(unit, epoch)])]
            self.after_unit()
            if self.over or self.grows_to is not None:
                return

    def run_isolated(self, units: Sequence[Unit], epoch: int) -> Iterator[list[Written]]:
        self.calls.append(Call([(unit.low, unit.high) for unit in units], None))
        yield [write_blocks(self._job(epoch), [self._rows(unit, epoch) for unit in units])]

    def copy_rows(self, files: Sequence[DataFile], without: RowRanges, epoch: int) -> tuple[DataFile, ...]:
        self.copied += [file.path for file in files]
        return copy_rows(self._job(epoch), files, without)

    def _job(self, epoch: int) -> WriteJob:
        return WriteJob(self._output, epoch, rows_schema(self._models))

    def _rows(self, unit: Unit, epoch: int) -> pa.Table:
        ids = range(unit.low, unit.high)
        labels = [None if row in self.failed | self.deadly | self.hanging else f"epoch {epoch}" for row in ids]
        failed, error = self.failed, self.error
        if dead := (self.deadly | self.hanging) & set(ids):
            failed, error = dead, DIED
        uris = read_unit(self._output, unit)["image_uri"].to_pylist()
        rows = block(
            unit.low, unit.high, *self._models, failed=failed, error=error, classification_label=labels, image_uri=uris
        )
        return rows.append_column(WORKER, pa.repeat(pa.scalar('{"pid": 1}'), rows.num_rows))
