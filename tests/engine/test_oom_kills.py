"""Processes that the kernel killed for memory are reported as such."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cvbatch.engine.oom_kills import OomKillMonitor, separate_oom_victims
from cvbatch.errors import HaltError, RowError
from cvbatch.models.spec import rows_schema
from cvbatch.planning.units import RowUnit
from cvbatch.system.control_group import count_memory_kills
from tests.rigs.containers import Machine
from tests.samples import block, spec

DIED = RowError("predict", "ProcessDied", "the process that worked on this image died each time")


class Kernel:
    """A control group with a count of kills."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._container = Machine(root)
        self.limit(1_000_000_000)
        self.killed = 40

    def limit(self, memory: int) -> None:
        self._container.second("/", memory_max=str(memory))

    @property
    def killed(self) -> int:
        return count_memory_kills(self.root)

    @killed.setter
    def killed(self, processes: int) -> None:
        self._container.second("/", memory_events=f"oom_kill {processes}")

    def watch(self) -> OomKillMonitor:
        return OomKillMonitor([spec()], self.root)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_only_kills_since_the_last_progress_count(kernel: Kernel) -> None:
    watch = kernel.watch()
    assert watch.kills_in_a_row == 0
    kernel.killed += 2
    assert not watch.kills_too_often
    watch.note_progress()
    kernel.killed += 2
    assert not watch.kills_too_often
    kernel.killed += 1
    assert watch.kills_too_often


@pytest.mark.parametrize(("killed", "times"), [(1, "once"), (3, "3 times")])
def test_the_error_names_kills_limit_and_need(killed: int, times: str, kernel: Kernel) -> None:
    watch = kernel.watch()
    kernel.killed += killed
    message = str(watch.halt_error())
    assert message.startswith(f"killed for memory {times}; the container has 1.0 GB, this job needs about 1.")
    assert not watch.halt_error().again, "more of the same would not help"


def test_the_reported_need_always_exceeds_the_limit(kernel: Kernel) -> None:
    kernel.limit(9_000_000_000)
    assert "has 9.0 GB, this job needs about 9.1 GB" in str(kernel.watch().halt_error())


def alone(kernel: Kernel, watch: OomKillMonitor, *answers: Any, first: bool) -> list[pa.Table]:
    """Return the rows of these answers; each process that died was killed twice for memory."""

    def given() -> Iterator[tuple[RowUnit, Any]]:
        for row, answer in enumerate(answers):
            kernel.killed += 2 * isinstance(answer, RowError)
            yield RowUnit("part", row, row + 1), answer

    return list(separate_oom_victims(given(), lambda unit: IDS.slice(unit.low, 1), SCHEMA, watch, first))


IDS = pa.table({"row_id": pa.array(range(4), pa.int64())})
SCHEMA = rows_schema([spec()])


def test_an_image_that_kills_its_process_becomes_an_error_row(kernel: Kernel) -> None:
    watch = kernel.watch()
    tables = alone(kernel, watch, DIED, block(1, 2), DIED, DIED, first=True)
    assert [table["error_type"].to_pylist() for table in tables] == [
        [kind] for kind in (DIED.type, None, *[DIED.type] * 2)
    ]
    assert tables[0]["error_message"].to_pylist() == ["the process that worked on this image was killed for memory"]
    assert tables[0]["error_transient"].to_pylist() == [True]


def test_kills_before_any_result_end_the_run(kernel: Kernel) -> None:
    with pytest.raises(HaltError, match="killed for memory 4 times"):
        alone(kernel, kernel.watch(), DIED, DIED, DIED, first=True)


def test_kills_after_the_first_result_do_not_end_the_run(kernel: Kernel) -> None:
    assert len(alone(kernel, kernel.watch(), DIED, DIED, DIED, first=False)) == 3


def test_a_death_without_a_memory_kill_keeps_its_error(kernel: Kernel) -> None:
    watch = kernel.watch()
    assert watch.name_oom_error(DIED) is DIED
