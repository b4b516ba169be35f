"""Measures pages and windows of TIFFs: `python jobs/benchmark/answers_pages.py`.

`listing`: files in a second that a source lists on this disk, as one row each, and with `pages: all` as three. `pages`:
pages in a second that are read and decoded from TIFFs of many pages and from animations, against Pillow that opens the
file once and seeks. `windows`: windows of 1,024 pixels with an overlap of a fifth, of a tiled picture of the given side
(20,000; `--side` makes it smaller): seconds, and memory beside the packed bytes. Each part is a process of its own.
Prints JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WINDOW, STEP = 1024, 819
TILE = 512


def encoded_pages(kind: str, count: int, side: int, **options: Any) -> bytes:
    """A file of some pages: noise on a gradient."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    gradient = np.stack((rows, columns, rows + columns), axis=2) * 200 // (2 * side)
    images = [
        Image.fromarray((gradient + random.integers(0, 40, gradient.shape)).astype(np.uint8)) for _ in range(count)
    ]
    stream = io.BytesIO()
    images[0].save(stream, kind, save_all=True, append_images=images[1:], **options)
    return stream.getvalue()


def measure_listing(files: int) -> dict[str, float]:
    """Files in a second."""
    from cvbatch.config.job import SourceConfig
    from cvbatch.sources import open_source

    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, suffix, options in (
            ("TIFF", "tif", {"compression": "tiff_lzw"}),
            ("GIF", "gif", {}),
            ("PNG", "png", {}),
        ):
            data = encoded_pages(kind, 3, 400, **options)
            place = Path(folder) / suffix
            place.mkdir()
            for number in range(files):
                (place / f"{number:06}.{suffix}").write_bytes(data)
            for pages in ("first", "all"):
                start = time.perf_counter()
                source = open_source(SourceConfig(uri=str(place), pages=pages))
                rows = sum(chunk.num_rows for chunk in source.iter_chunks())
                figures[f"{suffix}, {pages}"] = round(files / (time.perf_counter() - start))
                assert rows == files * (3 if pages == "all" else 1)
    return figures


def measure_pages() -> dict[str, dict[str, float]]:
    """Pages in a second, ours and Pillow's."""
    from cvbatch.images.byte_ranges import HeldBytes
    from cvbatch.images.decode import decode
    from cvbatch.images.paged_files import PagedFile

    def ours(data: bytes, count: int) -> None:
        file = PagedFile(HeldBytes(data))
        for number in range(1, count + 1):
            decode(file.encode_page(number), max_pixels=10**9)

    def pillow(data: bytes, count: int) -> None:
        with Image.open(io.BytesIO(data)) as image:
            for number in range(count):
                image.seek(number)
                image.convert("RGB")

    figures = {}
    for name, kind, options in (
        ("TIFF, LZW", "TIFF", {"compression": "tiff_lzw"}),
        ("TIFF, JPEG", "TIFF", {"compression": "jpeg"}),
        ("GIF", "GIF", {}),
        ("WebP", "WEBP", {}),
    ):
        data = encoded_pages(kind, 24, 800, **options)
        figures[name] = {
            who: round(24 / _seconds(lambda work=work, data=data: work(data, 24)), 1)  # type: ignore[misc]
            for who, work in (("ours", ours), ("pillow", pillow))
        }
    return figures


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write_tiled(path: Path, side: int, compression: str) -> None:
    """Write a picture of tiles that differ."""
    import tifffile

    rows, columns = np.mgrid[:TILE, :TILE]
    tile = np.stack((rows // 4, columns // 4, (rows ^ columns) // 8), axis=2).astype(np.uint8)
    count = (-(-side // TILE)) ** 2

    def tiles() -> Iterator[np.ndarray]:
        for number in range(count):
            yield np.roll(tile, number * 7, axis=0)

    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(
            tiles(),
            shape=(side, side, 3),
            dtype=np.uint8,
            photometric="rgb",
            tile=(TILE, TILE),
            compression=compression,
        )


def measure_windows(path: Path) -> dict[str, Any]:
    """Seconds, and memory beside the packed bytes."""
    from cvbatch.images.windows import open_windows

    data = path.read_bytes()
    open_windows(data, max_pixels=10**10).read(0, 0, 16, 16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader, count, start = open_windows(data, max_pixels=10**10), 0, time.perf_counter()
    for top in range(0, reader.height - WINDOW, STEP):
        for left in range(0, reader.width - WINDOW, STEP):
            reader.read(top, left, WINDOW, WINDOW)
            count += 1
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    facts = {"windows": count, "seconds": round(seconds, 1), "packed_mb": round(len(data) / 1e6)}
    return {**facts, "memory_beside_mb": round((after - before) / 1024)}


def _in_process(*arguments: str) -> Any:
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Run all parts, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part")
    parser.add_argument("--path", type=Path)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--files", type=int, default=1_000)
    options = parser.parse_args()
    if options.part is not None:
        parts = {
            "listing": lambda: measure_listing(options.files),
            "pages": measure_pages,
            "windows": lambda: measure_windows(options.path),
        }
        print(json.dumps(parts[options.part]()))
        return
    figures: dict[str, Any] = {
        "listing": _in_process("--part", "listing", "--files", str(options.files)),
        "pages": _in_process("--part", "pages"),
        "windows": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for compression in ("lzw", "zlib", "jpeg"):
            path = Path(folder) / "picture.tif"
            write_tiled(path, options.side, compression)
            figures["windows"][compression] = _in_process("--part", "windows", "--path", str(path))
            path.unlink()
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
