"""Image sets for the benchmarks, made from photos that scikit-image carries."""

from __future__ import annotations

import random
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

_EVERY, _NOISE = 10, 512
_DISTINCT = 2_000
_PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")


def make_images(folder: Path, count: int, *, size: tuple[int, int] = (500, 375), seed: int = 0) -> None:
    """Write JPEGs like those of ImageNet: different crops with some noise, about 80 KB at 500×375.

    After the first two thousand images, the same files are repeated under other names.

    Args:
        folder: The folder to write to; files that exist are not changed.
        count: The number of images.
        size: (width, height) in pixels; each image differs from it by up to a tenth.
        seed: The same seed gives the same files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [folder / f"{number:06d}.jpg" for number in range(count)]
    missing = [number for number, path in enumerate(names[:_DISTINCT]) if not path.exists()]
    if missing:
        with ProcessPoolExecutor() as pool:
            list(pool.map(partial(_make, names, size, seed), missing, chunksize=8))
    for number, path in enumerate(names[_DISTINCT:]):
        if not path.exists():
            path.hardlink_to(names[number % _DISTINCT])


def _make(names: list[Path], size: tuple[int, int], seed: int, number: int) -> None:
    photos = _photos()
    draw = random.Random(seed * 1_000_003 + number)
    photo = photos[number % len(photos)]
    scale = draw.uniform(0.4, 1.0)
    width, height = (round(side * scale) for side in photo.size)
    left, top = draw.randint(0, photo.width - width), draw.randint(0, photo.height - height)
    target = tuple(round(side * draw.uniform(0.9, 1.1)) for side in size)
    crop = photo.crop((left, top, left + width, top + height)).resize(target, Image.Resampling.BICUBIC)
    grain = np.random.default_rng(number).normal(0, 6, (target[1], target[0], 1))
    pixels = np.clip(np.asarray(crop, dtype=np.float32) + grain, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(names[number], quality=88)


@cache
def _photos() -> list[Image.Image]:
    return [Image.fromarray(getattr(data, name)()).convert("RGB") for name in _PHOTOS]


def make_mixed(folder: Path, good: Path) -> None:
    """Copy photos, and break every tenth: truncated, empty, not an image, or without its header.

    Args:
        folder: The folder to write to.
        good: The folder with the photos.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(sorted(good.glob("*.jpg"))):
        data = path.read_bytes()
        if number % _EVERY == 0:
            middle = len(data) // 2
            noise = np.random.default_rng(number).bytes(_NOISE)
            ways = (data[:middle], b"", b"not an image", noise + data[_NOISE:])
            data = ways[number // _EVERY % len(ways)]
        (folder / path.name).write_bytes(data)


if __name__ == "__main__":
    make_images(Path(sys.argv[1]), int(sys.argv[2]))
