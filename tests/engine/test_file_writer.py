"""When files are closed and yielded; the writers are stand-ins that take a given time."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

from cvbatch.engine.file_writer import iter_written_files


@dataclass(frozen=True)
class Bundle:
    """A unit of a hundred rows."""

    number: int

    def num_rows(self) -> int:
        return 100

    def size_bytes(self) -> int:
        return 1 << 20


@dataclass
class SlowWriters:
    """Writers that take a fixed time per file."""

    seconds: float
    pending: list[tuple[float, list[Bundle]]] = field(default_factory=list)

    def write_in_driver(self, bundles: Iterable[Bundle]) -> list[Bundle]:
        return list(bundles)

    def submit_blocks(self, bundles: Iterable[Bundle]) -> None:
        self.pending.append((time.monotonic() + self.seconds, list(bundles)))

    def finished_files(self, timeout: float | None = 0) -> list[list[Bundle]]:
        remaining_seconds = max((due_time for due_time, _ in self.pending), default=0.0) - time.monotonic()
        time.sleep(max(0.0, remaining_seconds if timeout is None else min(remaining_seconds, timeout)))
        finished = [entry for entry in self.pending if entry[0] <= time.monotonic()]
        self.pending = [entry for entry in self.pending if entry not in finished]
        return [bundles for _, bundles in finished]


def told(writers: Any, interval: float) -> list[str]:
    """Return the events, in order, for four units that arrive at the given interval."""
    events = []

    def units() -> Generator[Bundle]:
        for number in range(4):
            time.sleep(interval)
            events.append(f"unit {number}")
            yield Bundle(number)

    for written in iter_written_files(units(), writers, write_first_now=True, min_seconds=0.0):
        events.extend(f"file of {[bundle.number for bundle in bundles]}" for bundles in written)
    return events


def test_a_file_is_yielded_before_the_next_unit_arrives() -> None:
    pairs = [(f"unit {number}", f"file of [{number}]") for number in range(4)]
    assert told(SlowWriters(0.05), interval=0.4) == [word for words in pairs for word in words]


def test_a_slow_file_does_not_delay_units() -> None:
    events = told(SlowWriters(1.0), interval=0.0)
    assert events[:5] == ["unit 0", "file of [0]", "unit 1", "unit 2", "unit 3"]
