"""Compares our JPEG reader with Pillow's, in turns in one process: decoded, resized and cropped as for ResNet-50.

Usage: `python jobs/benchmark/jpegs.py [ROUNDS]`; prints a table. Times are CPU times, so that other load on
the machine does not count.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from images import make_images

from cvbatch.images.formats import JPEG_FORMAT
from cvbatch.images.jpeg import read_jpeg
from cvbatch.images.pillow_guards import quiet_pillow
from cvbatch.images.pillow_reader import read_by_pillow
from cvbatch.images.preprocess import View, apply_view, compute_min_decode_side
from cvbatch.images.reading import FormatReader, ReadOptions

_ROUNDS, _THREADS = 7, 2
_VIEW = View(resize=232, crop=(224, 224))


class _Case(NamedTuple):
    name: str
    count: int
    size: tuple[int, int]


_CASES = (_Case("500×375", 128, (500, 375)), _Case("12 megapixels", 8, (4000, 3000)))


def main() -> None:
    """Measure and print a table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else _ROUNDS
    sys.stdout.write("| JPEGs | | Pillow, ms | simplejpeg, ms | ratio | same pixels |\n|---|---|---|---|---|---|\n")
    with tempfile.TemporaryDirectory() as folder, quiet_pillow:
        for case in _CASES:
            make_images(Path(folder) / case.name, case.count, size=case.size)
            files = [path.read_bytes() for path in sorted((Path(folder) / case.name).glob("*.jpg"))]
            _report(case.name, files, rounds)


def _report(name: str, files: Sequence[bytes], rounds: int) -> None:
    full, scaled = ReadOptions(178_000_000), ReadOptions(178_000_000, min_decode_side=compute_min_decode_side([_VIEW]))
    same = all(
        np.array_equal(*(np.asarray(reader(JPEG_FORMAT, data, full).image) for reader in (read_jpeg, read_by_pillow)))
        for data in files
    )
    for step, work in (
        ("decoded", lambda reader, data: reader(JPEG_FORMAT, data, full)),
        ("decoded, resized, cropped", lambda reader, data: apply_view(_VIEW, reader(JPEG_FORMAT, data, full).image)),
        ("decoded to an array", lambda reader, data: np.asarray(reader(JPEG_FORMAT, data, full).image)),
    ):
        pairs = [[_milliseconds(work, reader, files) for reader in (read_by_pillow, read_jpeg)] for _ in range(rounds)]
        old, new = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratio = statistics.median(before / after for before, after in pairs)
        sys.stdout.write(f"| {name} | {step} | {old:.2f} | {new:.2f} | {ratio:.2f} | {'yes' if same else 'NO'} |\n")
        sys.stdout.flush()
    if name != _CASES[0].name:
        small = _milliseconds(
            lambda reader, data: apply_view(_VIEW, reader(JPEG_FORMAT, data, scaled).image), read_jpeg, files
        )
        sys.stdout.write(f"| {name} | scaled, resized, cropped | | {small:.2f} | | |\n")
    alone = _rate(files, 1)
    together = _rate(files, _THREADS)
    sys.stdout.write(f"| {name} | {_THREADS} threads ÷ one, simplejpeg | | | {together / alone:.2f} | |\n")


def _milliseconds(work: Callable[[FormatReader, bytes], object], reader: FormatReader, files: Sequence[bytes]) -> float:
    started = time.process_time()
    for data in files:
        work(reader, data)
    return (time.process_time() - started) / len(files) * 1000


def _rate(files: Sequence[bytes], threads: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        list(pool.map(lambda data: read_jpeg(JPEG_FORMAT, data, ReadOptions(178_000_000)), files * threads))
        return len(files) * threads / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
