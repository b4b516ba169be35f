"""A small, realistic photo archive: many formats, rotated images, odd names, and three broken files.

All images are crops of the photos in the scikit-image package, and are the same on every machine with the same
version of Pillow.
"""

from __future__ import annotations

import collections
import importlib.util
import itertools
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from cvbatch.demo.formats import FORMATS, FileFormat, save_as_format
from cvbatch.errors import OutputError, UsageError

Crop = tuple[int, int, int, int]
"""left, top, right, bottom in pixels of the photo."""

_GOOD_PHOTO_COUNT: Final = 197
_SEED: Final = 20261124
_MAX_CROP_SHIFT: Final = 0.04
"""Largest move of an edge of a crop, as a share of the crop's length."""
_SCALE_FACTORS: Final = (1.0, 0.7, 1.2, 0.5, 0.85)
_SHORTEST_SIDE: Final = 224
"""In pixels; smaller images are scaled up."""
_MIRROR_EVERY: Final = 3

_SCENES: Final[tuple[tuple[str, str, Crop], ...]] = (
    ("2021/park #1/photographer", "camera.png", (0, 0, 512, 512)),
    ("2021/park #1/tripod", "camera.png", (200, 100, 440, 500)),
    ("2021/park #1/at work", "camera.png", (100, 30, 420, 350)),
    ("2022/космодром/launch pad", "rocket.jpg", (0, 0, 640, 427)),
    ("2022/космодром/rocket", "rocket.jpg", (140, 40, 520, 427)),
    ("2022/космодром/tower", "rocket.jpg", (0, 60, 260, 427)),
    ("2022/space centre/portrait", "astronaut.png", (0, 0, 512, 512)),
    ("2022/space centre/helmet", "astronaut.png", (250, 300, 512, 512)),
    ("2022/space centre/shuttle", "astronaut.png", (290, 0, 512, 300)),
    ("2022/space centre/desk", "astronaut.png", (250, 320, 470, 512)),
    ("2023/café/espresso", "coffee.png", (0, 0, 600, 400)),
    ("2023/café/cup from above", "coffee.png", (160, 10, 470, 230)),
    ("2023/café/cup & saucer", "coffee.png", (130, 0, 500, 330)),
    ("2023/café/table 100%", "coffee.png", (240, 60, 600, 400)),
    ("2023/café/left half", "coffee.png", (0, 0, 360, 400)),
    ("2024/garage/motorbike", "motorcycle_left.png", (0, 0, 741, 500)),
    ("2024/garage/front wheel", "motorcycle_left.png", (430, 180, 720, 440)),
    ("2024/garage/engine", "motorcycle_left.png", (280, 180, 520, 440)),
    ("2024/garage/handlebar", "motorcycle_left.png", (300, 60, 640, 420)),
    ("2024/garage/right side", "motorcycle_right.png", (60, 90, 680, 500)),
    ("2024/garage/rear wheel", "motorcycle_right.png", (90, 230, 340, 500)),
    ("2024/猫/chelsea", "chelsea.png", (0, 0, 451, 300)),
    ("2024/猫/face", "chelsea.png", (80, 0, 380, 300)),
    ("2024/猫/whiskers", "chelsea.png", (130, 60, 330, 260)),
)
"""Folder and name, photo, crop."""

_TRUNCATED_FILE: Final = "2023/café/copied halfway.jpg"
_TEXT_FILE: Final = "2024/garage/shopping list.jpg"
_EMPTY_FILE: Final = "2022/космодром/disk was full.jpg"
BROKEN_FILES: Final = (_EMPTY_FILE, _TRUNCATED_FILE, _TEXT_FILE)
"""The files that cannot be decoded, below the archive's folder."""

_SIDECARS: Final = {
    "2021/park #1/photographer 01.xmp": '<x:xmpmeta xmlns:x="adobe:ns:meta/"/>\n',
    "2023/café/album.json": '{"title": "café"}\n',
    "2024/Thumbs.db": "thumbnails\n",
}


@dataclass(frozen=True, slots=True)
class _DemoPhoto:
    """One good file of the archive."""

    name: str
    source: str
    crop: Crop
    scale: float
    is_mirrored: bool
    format: FileFormat


def archive_names() -> list[str]:
    """Names of all images of the archive, below its folder, broken ones included, in order."""
    return sorted([*(photo.name for photo in _iter_demo_photos()), *BROKEN_FILES])


def make_photo_archive(folder: Path) -> None:
    """Write the archive, unless it exists already.

    Args:
        folder: The folder of the archive. It appears in one step, when the archive is complete.

    Raises:
        UsageError: scikit-image is not installed.
        OutputError: The folder contains other files.
    """
    if folder.exists():
        existing = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        if existing != sorted([*archive_names(), *_SIDECARS]):
            raise OutputError(f"{folder} has other files than the demo's photos; choose another --output")
        return
    sources = _SourcePhotos(find_photo_folder())
    partial = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)

    def write_photo(photo: _DemoPhoto) -> None:
        save_as_format(_crop_and_scale(sources, photo), photo.format, _prepare_photo_path(partial, photo.name))

    with ThreadPoolExecutor() as pool:
        collections.deque(pool.map(write_photo, _iter_demo_photos()), maxlen=0)
    first = next(photo for photo in _iter_demo_photos() if photo.format.name == "jpeg")
    jpeg_bytes = (partial / first.name).read_bytes()
    _prepare_photo_path(partial, _TRUNCATED_FILE).write_bytes(jpeg_bytes[: len(jpeg_bytes) * 3 // 5])
    _prepare_photo_path(partial, _TEXT_FILE).write_text("spark plugs, chain oil, red paint\n", encoding="utf-8")
    _prepare_photo_path(partial, _EMPTY_FILE).touch()
    for name, text in _SIDECARS.items():
        _prepare_photo_path(partial, name).write_text(text, encoding="utf-8")
    partial.rename(folder)


def _iter_demo_photos() -> Iterator[_DemoPhoto]:
    """Repeats the scenes, each time with another crop and format."""
    random = np.random.default_rng(_SEED)
    endless = itertools.cycle(enumerate(_SCENES))
    for number, (scene, (name, source, crop)) in enumerate(itertools.islice(endless, _GOOD_PHOTO_COUNT)):
        file_format = FORMATS[number % len(FORMATS)]
        yield _DemoPhoto(
            name=f"{name} {number // len(_SCENES) + 1:02d}.{file_format.suffix}",
            source=source,
            crop=_shift_crop(crop, random.uniform(0, _MAX_CROP_SHIFT, 4)) if number >= len(_SCENES) else crop,
            scale=_SCALE_FACTORS[(scene + number // len(_SCENES)) % len(_SCALE_FACTORS)],
            is_mirrored=number % _MIRROR_EVERY == _MIRROR_EVERY - 1,
            format=file_format,
        )


def _shift_crop(crop: Crop, shares: np.ndarray) -> Crop:
    left, top, right, bottom = crop
    width, height = right - left, bottom - top
    moves = [round(share * length) for share, length in zip(shares.tolist(), (width, height) * 2, strict=True)]
    return left + moves[0], top + moves[1], right - moves[2], bottom - moves[3]


class _SourcePhotos(dict[str, Image.Image]):
    """Whole photos by name, each decoded once."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, name: str) -> Image.Image:
        with Image.open(self._folder / name) as photo:
            self[name] = photo.convert("RGB")
        return self[name]


def _crop_and_scale(sources: Mapping[str, Image.Image], photo: _DemoPhoto) -> Image.Image:
    image = sources[photo.source].crop(photo.crop)
    if photo.is_mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale = max(photo.scale, _SHORTEST_SIDE / min(image.size))
    size = round(image.width * scale), round(image.height * scale)
    return image.resize(size, Image.Resampling.LANCZOS)


def _prepare_photo_path(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def find_photo_folder() -> Path:
    """Find the photos of scikit-image, which need not be imported for that.

    Raises:
        UsageError: scikit-image is not installed.
    """
    package = importlib.util.find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        raise UsageError("the demo is made of photos from scikit-image, which is missing: pip install 'cvbatch[demo]'")
    return Path(package.submodule_search_locations[0], "data")
