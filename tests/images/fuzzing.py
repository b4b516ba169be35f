"""Decode mutants of every format in a process that may die: `python -m tests.images.fuzzing SECONDS SEED [FOLDER]`.

A mutant becomes a picture or an `ImageError`. Anything else is a finding: another exception, a crash, more than 10 s of
one core, more than 1 GB of memory beyond what the process had.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_CPU_SECONDS: Final = 10
_WALL_SECONDS: Final = 90
"""The machine may be busy."""
_MEMORY: Final = 1 << 30
_ADDRESS_SPACE: Final = 12 << 30
"""Threads of decoders reserve much more than they use."""
_MAX_PIXELS: Final = 20_000_000
"""A picture of the default limit takes 0.7 GB by itself: it is what comes on top that counts."""


def fuzz(seconds: float, seed: int, folder: Path, count: int | None = None) -> list[str]:
    """Decode mutants for so long, or so many.

    Args:
        seconds: How long.
        seed: The same seed makes the same mutants.
        folder: Where files go that are findings.
        count: How many at most.

    Returns:
        What was found, one line each.
    """
    ends, found, start = time.monotonic() + seconds, [], 0
    while time.monotonic() < ends and (count is None or start < count):
        with tempfile.TemporaryFile() as place, tempfile.TemporaryFile("w+") as said:
            left = json.dumps([max(0.1, ends - time.monotonic()), seed, start, count, str(folder), place.fileno()])
            worker = subprocess.Popen(
                [sys.executable, "-m", "tests.images.fuzzing", "--worker", left],
                stderr=said,
                pass_fds=[place.fileno()],
            )
            at, verdict = _watch(worker, place.fileno())
            said.seek(0)
            lines = said.read().splitlines()
        found += [line for line in lines if line.startswith("finding ")]
        if verdict is not None:
            (folder / f"{seed}-{at}").write_bytes(_mutant(seed, at)[1])
            found.append(f"finding {seed}-{at}: {verdict}: {lines[-1:]}")
        start = at + 1
    print(f"{start} mutants, {len(found)} findings")
    return found


def _watch(worker: subprocess.Popen[bytes], place: int) -> tuple[int, str | None]:
    """Wait for a worker.

    Returns:
        The mutant that it was at, and how it ended if not by itself.
    """
    at, since = -1, time.monotonic()
    while worker.poll() is None:
        time.sleep(0.2)
        now = int(os.pread(place, 20, 0) or b"-1")
        if now != at:
            at, since = now, time.monotonic()
        elif time.monotonic() - since > _WALL_SECONDS:
            worker.kill()
            worker.wait()
            return at, "it hangs"
    at = int(os.pread(place, 20, 0) or b"-1")
    return at, None if worker.returncode == 0 else f"the process ended with {worker.returncode}"


def _mutant(seed: int, at: int) -> tuple[str, bytes]:
    from tests.images.mutants import mutant, seeds

    global _seeds
    _seeds = _seeds or seeds()
    chance = random.Random(seed * 1_000_003 + at)
    name = chance.choice([name for name, files in _seeds.items() if files])
    return name, mutant(chance, name, _seeds[name])


_seeds: dict[str, list[bytes]] = {}


def _work(seconds: float, seed: int, start: int, count: int | None, folder: str, place: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ends = time.monotonic() + seconds
    at = start
    for at in itertools.count(start) if count is None else range(start, count):
        os.pwrite(place, b"%20d" % at, 0)
        if time.monotonic() > ends:
            return
        name, data = _mutant(seed, at)
        for finding in _look(data, random.Random(at)):
            (Path(folder) / f"{seed}-{at}").write_bytes(data)
            print(f"finding {seed}-{at}: {name}: {finding}", file=sys.stderr, flush=True)


def _look(data: bytes, chance: random.Random) -> Iterator[str]:
    from cvbatch.errors import ImageError, try_call
    from cvbatch.images.decode import decode
    from cvbatch.images.jpeg_header import read_baseline_header
    from cvbatch.images.preprocess import View, apply_view

    options: dict[str, Any] = {
        "exif": chance.random() < 0.5,
        "icc": chance.random() < 0.5,
        "min_decode_side": chance.choice((None, None, 8)),
    }

    def work() -> None:
        read_baseline_header(data, max_pixels=_MAX_PIXELS, exif=True)
        found = decode(data, max_pixels=_MAX_PIXELS, **options)
        assert found.image.mode == "RGB"
        assert found.width * found.height <= _MAX_PIXELS
        apply_view(View(resize=32, crop=(28, 28)), found.image, (found.width, found.height))

    before, started = _memory(), time.process_time()
    error = try_call(work)
    seconds, memory = time.process_time() - started, _memory() - before
    if isinstance(error, Exception) and not isinstance(error, ImageError):
        yield f"{type(error).__name__}: {error}"
    if seconds > _CPU_SECONDS:
        yield f"{seconds:.0f} s"
    if memory > _MEMORY:
        yield f"{memory >> 20} MB"


def _memory() -> int:
    """Most bytes of memory that this process had since it was last asked."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        _work(*json.loads(sys.argv[2]))
    else:
        target = Path(sys.argv[3] if len(sys.argv) > 3 else tempfile.mkdtemp(prefix="fuzz-"))
        target.mkdir(parents=True, exist_ok=True)
        print(*fuzz(float(sys.argv[1]), int(sys.argv[2]), target), f"files in {target}", sep="\n")
