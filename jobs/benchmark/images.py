"""Image sets for the benchmarks, made from photos that scikit-image carries."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

_EVERY, _NOISE = 10, 512
_PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")


def make_images(folder: Path, count: int, *, size: tuple[int, int] = (500, 375), seed: int = 0) -> None:
    """Write JPEGs like those of ImageNet: different crops with some grain, about 80 KB at 500×375.

    Args:
        folder: Where to; files that are there already are kept.
        count: How many.
        size: (width, height) in pixels; each image differs from it by up to a tenth.
        seed: The same seed gives the same files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    photos = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in _PHOTOS]
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        draw = random.Random(seed * 1_000_003 + number)
        if path.exists():
            continue
        photo = photos[number % len(photos)]
        scale = draw.uniform(0.4, 1.0)
        width, height = (round(side * scale) for side in photo.size)
        left, top = draw.randint(0, photo.width - width), draw.randint(0, photo.height - height)
        target = tuple(round(side * draw.uniform(0.9, 1.1)) for side in size)
        crop = photo.crop((left, top, left + width, top + height)).resize(target, Image.Resampling.BICUBIC)
        grain = np.random.default_rng(number).normal(0, 6, (target[1], target[0], 1))
        pixels = np.clip(np.asarray(crop, dtype=np.float32) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, quality=88)


def make_mixed(folder: Path, good: Path) -> None:
    """Copy photos, and break every tenth: cut off, empty, no image at all, or without its header.

    Args:
        folder: Where to.
        good: The photos.
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
