"""Decode mutants of every format in a child process: `python -m tests.images.fuzzing SECONDS SEED [FOLDER]`.

A mutant must decode to a picture or raise `ImageError`. Anything else is a finding: another exception, a crash, more
than 10 s of one core, more than 1 GB of additional memory.
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
"""Decoder threads reserve much more memory than they use."""
_MAX_PIXELS: Final = 20_000_000
"""A picture of the default limit alone takes 0.7 GB; only additional memory is of interest."""


def fuzz(seconds: float, seed: int, folder: Path, count: int | None = None) -> list[str]:
    """Decode mutants for a time, or a number of them.

    Args:
        seconds: Time limit.
        seed: The same seed makes the same mutants.
        folder: Folder for the files of findings.
        count: Most mutants.

    Returns:
        Findings, one line each.
    """
    deadline, findings, start = time.monotonic() + seconds, [], 0
    while time.monotonic() < deadline and (count is None or start < count):
        with tempfile.TemporaryFile() as position_file, tempfile.TemporaryFile("w+") as error_file:
            position = position_file.fileno()
            remaining_seconds = max(0.1, deadline - time.monotonic())
            arguments = json.dumps([remaining_seconds, seed, start, count, str(folder), position])
            worker = subprocess.Popen(
                [sys.executable, "-m", "tests.images.fuzzing", "--worker", arguments],
                stderr=error_file,
                pass_fds=[position],
            )
            index, verdict = _watch(worker, position)
            error_file.seek(0)
            lines = error_file.read().splitlines()
        findings += [line for line in lines if line.startswith("finding ")]
        if verdict is not None:
            (folder / f"{seed}-{index}").write_bytes(_mutant(seed, index)[1])
            findings.append(f"finding {seed}-{index}: {verdict}: {lines[-1:]}")
        start = index + 1
    print(f"{start} mutants, {len(findings)} findings")
    return findings


def _watch(worker: subprocess.Popen[bytes], position: int) -> tuple[int, str | None]:
    """Wait for a worker.

    Returns:
        Index of its last mutant, and how it ended; None if it finished.
    """
    index, since = -1, time.monotonic()
    while worker.poll() is None:
        time.sleep(0.2)
        current = int(os.pread(position, 20, 0) or b"-1")
        if current != index:
            index, since = current, time.monotonic()
        elif time.monotonic() - since > _WALL_SECONDS:
            worker.kill()
            worker.wait()
            return index, "it hangs"
    index = int(os.pread(position, 20, 0) or b"-1")
    return index, None if worker.returncode == 0 else f"the process ended with {worker.returncode}"


def _mutant(seed: int, index: int) -> tuple[str, bytes]:
    from tests.images.mutants import mutant, seeds

    global _seeds
    _seeds = _seeds or seeds()
    chance = random.Random(seed * 1_000_003 + index)
    name = chance.choice([name for name, files in _seeds.items() if files])
    return name, mutant(chance, name, _seeds[name])


_seeds: dict[str, list[bytes]] = {}


def _work(seconds: float, seed: int, start: int, count: int | None, folder: str, position: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    deadline = time.monotonic() + seconds
    for index in itertools.count(start) if count is None else range(start, count):
        os.pwrite(position, b"%20d" % index, 0)
        if time.monotonic() > deadline:
            return
        name, data = _mutant(seed, index)
        for finding in _find_faults(data, random.Random(index)):
            (Path(folder) / f"{seed}-{index}").write_bytes(data)
            print(f"finding {seed}-{index}: {name}: {finding}", file=sys.stderr, flush=True)


def _find_faults(data: bytes, chance: random.Random) -> Iterator[str]:
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
        decoded = decode(data, max_pixels=_MAX_PIXELS, **options)
        assert decoded.image.mode == "RGB"
        assert decoded.width * decoded.height <= _MAX_PIXELS
        apply_view(View(resize=32, crop=(28, 28)), decoded.image, (decoded.width, decoded.height))

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
    """Peak memory of this process since the last call, in bytes."""
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
