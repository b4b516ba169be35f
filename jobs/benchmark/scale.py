"""Measures what grows with the number of rows: listing, time to the first block of a large plan, driver memory.

Usage: `python jobs/benchmark/scale.py listing|first_block|rows FOLDER ROWS`.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import cvbatch
from cvbatch.models.resolve import resolve_models
from cvbatch.output.log_records import RunState
from cvbatch.output.store import open_store
from cvbatch.planning.plan import make_plan
from cvbatch.sources import open_source

_FILES = 1_000
_HERE = Path(__file__).resolve().parent


class _MemoryObserver:
    """Records the driver's memory at each commit."""

    def __init__(self, *, stop_early: bool) -> None:
        self.planned_at = self.first_commit_at = 0.0
        self.memory: dict[int, float] = {}
        self._stop_early = stop_early

    def on_phase(self, what: str) -> None:
        pass

    def on_planned(self, state: RunState) -> None:
        self.planned_at = time.monotonic()

    def on_committed(self, state: RunState) -> None:
        self.first_commit_at = self.first_commit_at or time.monotonic()
        self.memory[len(state.accepted)] = _resident_megabytes()
        if self._stop_early:
            raise KeyboardInterrupt


def main() -> None:
    """Measure and print JSON."""
    name, folder, rows = sys.argv[1], Path(sys.argv[2]).resolve(), int(sys.argv[3])
    result = _listing(folder, rows) if name == "listing" else _run(name, folder, rows)
    sys.stdout.write(json.dumps(result) + "\n")


def _listing(folder: Path, rows: int) -> dict[str, Any]:
    """List `rows` files on the local disk and write the plan."""
    source = folder / f"files-{rows}"
    for number in range(rows):
        if number % _FILES == 0:
            (source / f"{number // _FILES:06d}").mkdir(parents=True, exist_ok=True)
        (source / f"{number // _FILES:06d}" / f"image-{number:09d}.jpg").touch()
    output = folder / f"listing-{rows}-{time.time_ns()}"
    job = cvbatch.load_job(
        defaults={
            "source": {"uri": str(source)},
            "models": [{"model": "efficientnet_lite0"}],
            "output": {"uri": str(output)},
        }
    )
    before, started = _resident_megabytes(), time.monotonic()
    plan = make_plan(open_store(job.output.location), job, resolve_models(job.models), open_source(job.source))
    seconds = time.monotonic() - started
    return {
        "rows": plan.rows,
        "seconds": seconds,
        "megabytes_before": before,
        "megabytes_at_most": _most_resident_megabytes(),
        "plan_bytes": sum(path.stat().st_size for path in (output / "_cvbatch" / "plan").iterdir()),
    }


def _run(name: str, folder: Path, rows: int) -> dict[str, Any]:
    sys.path.insert(0, str(_HERE))
    manifest = make_manifest(folder, rows)
    observer = _MemoryObserver(stop_early=name == "first_block")
    job = cvbatch.load_job(
        defaults={
            "source": {"uri": str(manifest)},
            "models": [{"model": "python:trivial:Constant"}],
            "output": {"uri": str(folder / f"{name}-{rows}-{time.time_ns()}")},
        }
    )
    started = time.monotonic()
    with contextlib.suppress(KeyboardInterrupt):
        cvbatch.run(job, observer, pythonpath=str(_HERE))
    return {
        "rows": rows,
        "seconds_to_plan": observer.planned_at - started,
        "seconds_from_plan_to_first_commit": observer.first_commit_at - observer.planned_at,
        "seconds": time.monotonic() - started,
        "driver_megabytes_by_rows": observer.memory,
    }


def make_manifest(folder: Path, rows: int) -> Path:
    """A manifest that repeats a thousand tiny images."""
    images = folder / "tiny"
    images.mkdir(parents=True, exist_ok=True)
    names = []
    for number in range(_FILES):
        path = images / f"{number:04d}.png"
        if not path.exists():
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        names.append(str(path))
    manifest = folder / f"manifest-{rows}.parquet"
    pq.write_table(pa.table({"uri": [names[row % _FILES] for row in range(rows)]}), manifest)
    return manifest


def _resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def _most_resident_megabytes() -> float:
    """Peak memory of this program; the figure of `getrusage` includes the process that started it."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None, "Linux reports it"
    return int(match[1]) / 1e3


if __name__ == "__main__":
    main()
