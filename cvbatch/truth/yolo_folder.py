"""Truth about objects as YOLO writes it: a text file for each image, with coordinates in shares of the image.

Ultralytics' documentation describes the format: `class x_center y_center width height` for boxes, with keypoints behind
if `kpt_shape` says so, or `class x1 y1 x2 y2 …` for polygons.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import yaml

from cvbatch.errors import UsageError
from cvbatch.storage.location import Location
from cvbatch.truth.base import TruthReader
from cvbatch.truth.files import IMAGE_SUFFIXES, read_lines, truth_path
from cvbatch.truth.objects import ObjectTruth

_LAYOUT: Final = "YOLO"
_YAML_NAMES: Final = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")
_LIST_NAMES: Final = ("classes.txt", "obj.names", "labels.txt")
_LEVELS_UP: Final = 3
_BOX: Final = 5
_OUTSIDE: Final = 0.01
"""How far coordinates may lie outside the image: rounding, not pixels."""


def read_yolo_folder(location: Location) -> ObjectTruth:
    """Read a folder of YOLO's labels.

    Args:
        location: The folder, one of its splits, or its `data.yaml`.

    Returns:
        The objects, with relative coordinates. Images in the folder that have no text file have no objects.

    Raises:
        UsageError: If there are no names of classes, or a line is wrong.
    """
    path = truth_path(location)
    assert path is not None
    names_file = path if path.is_file() else _find_names_file(path)
    assert names_file is not None
    folder = path if path.is_dir() else names_file.parent
    header = _read_header(names_file)
    label_files = {_image_key(folder, file, "labels"): file for file in _walk(folder, {".txt"}) if not _is_list(file)}
    image_keys = {_image_key(folder, file, "images") for file in _walk(folder, IMAGE_SUFFIXES)}
    names = sorted(image_keys | label_files.keys())
    lines = [
        (index, _parse_line(line, file, number, header))
        for index, name in enumerate(names)
        if (file := label_files.get(name)) is not None
        for number, line in enumerate(read_lines(file), 1)
        if line.strip()
    ]
    objects = [parsed for _, parsed in lines]
    unlabelled = len(image_keys - label_files.keys())
    notes = (f"images of the truth without a text file, so without objects: {unlabelled:,}",) if unlabelled else ()
    return ObjectTruth(
        source=str(location),
        layout=_LAYOUT,
        image_names=names,
        has_suffixes=False,
        categories=header.names,
        notes=notes,
        image_indices=np.array([index for index, _ in lines], np.int64),
        labels=np.array([parsed.label for parsed in objects], np.int64),
        boxes=np.array([parsed.box for parsed in objects], np.float64).reshape(-1, 4),
        is_crowd=np.zeros(len(objects), np.bool_),
        segmentations=[parsed.polygons for parsed in objects] if any(p.polygons for p in objects) else None,
        keypoints=None
        if header.points is None
        else np.array([parsed.points for parsed in objects], np.float64).reshape(-1, header.points, 3),
        is_relative=True,
    )


def _looks_like_yolo(location: Location) -> bool:
    path = truth_path(location)
    if path is None:
        return False
    if path.is_file():
        return path.suffix in (".yaml", ".yml")
    has_labels = any(not _is_list(file) for file in _walk(path, {".txt"}))
    return (has_labels or (path / _YAML_NAMES[0]).exists()) and _find_names_file(path) is not None


YOLO_READER: Final = TruthReader(
    _LAYOUT, "a folder with data.yaml or classes.txt, and labels/", _looks_like_yolo, read_yolo_folder
)


@dataclass(frozen=True)
class _Header:
    """What holds for all files."""

    names: tuple[str, ...]
    points: int | None = None
    """Keypoints of each object."""
    numbers_of_point: int = 3
    """2 if keypoints have no visibility."""


@dataclass(frozen=True)
class _Line:
    """One object."""

    label: int
    box: tuple[float, ...]
    polygons: list[list[float]] | None = None
    points: list[list[float]] | None = None


def _find_names_file(folder: Path) -> Path | None:
    for parent in (folder, folder / "labels", *folder.resolve().parents[:_LEVELS_UP]):
        for name in (*_YAML_NAMES, *_LIST_NAMES):
            if (parent / name).is_file():
                return parent / name
    return None


def _read_header(file: Path) -> _Header:
    if file.suffix not in (".yaml", ".yml"):
        return _Header(tuple(line.strip() for line in read_lines(file) if line.strip()))
    try:
        content = yaml.safe_load("\n".join(read_lines(file)))
    except yaml.YAMLError as error:
        raise UsageError(f"{file}: expected YAML with names: of classes; {' '.join(str(error).split())}") from None
    listed = content.get("names") if isinstance(content, Mapping) else None
    if isinstance(listed, Mapping) and all(isinstance(key, int) for key in listed):
        listed = [listed.get(label, f"class {label}") for label in range(max(listed, default=-1) + 1)]
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise UsageError(f"{file}: expected names: with the names of the classes, got {listed!r}")
    shape = content.get("kpt_shape")
    if shape is None:
        return _Header(tuple(map(str, listed)))
    if not (isinstance(shape, list) and len(shape) == 2 and shape[1] in (2, 3) and isinstance(shape[0], int)):
        raise UsageError(f"{file}: expected kpt_shape: [keypoints, 2 or 3], got {shape!r}")
    return _Header(tuple(map(str, listed)), shape[0], shape[1])


def _walk(folder: Path, suffixes: set[str] | frozenset[str]) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if Path(name).suffix.lower() in suffixes)


def _is_list(file: Path) -> bool:
    """Whether a text file holds names of classes or of images, and no objects."""
    return file.name in _LIST_NAMES or file.stem.lower() in ("readme", "train", "val", "test", "notes")


def _image_key(folder: Path, file: Path, kind: str) -> str:
    """Path of an image without suffix, and without the folder `images` or `labels`."""
    parts = list(file.relative_to(folder).with_suffix("").parts)
    if kind in parts[:-1]:
        del parts[len(parts) - 1 - parts[::-1].index(kind)]
    return "/".join(parts)


def _parse_line(line: str, file: Path, number: int, header: _Header) -> _Line:
    where = f"{file}, line {number}"
    try:
        label, *numbers = (float(word) for word in line.split())
    except ValueError:
        raise UsageError(f"{where}: expected a class and numbers, got {line.strip()[:80]!r}") from None
    if not 0 <= label < len(header.names) or label % 1:
        raise UsageError(f"{where}: expected a class from 0 to {len(header.names) - 1}, got {label:g}")
    if not all(-_OUTSIDE <= value <= 1 + _OUTSIDE for value in _coordinates(numbers, header)):
        raise UsageError(f"{where}: expected shares of the image from 0 to 1, got {line.strip()[:80]!r}")
    with_points = _BOX + (header.points or 0) * header.numbers_of_point
    if header.points is not None and len(numbers) + 1 == with_points:
        points: list[list[float]] = np.reshape(numbers[4:], (header.points, -1)).tolist()
        points = [point if len(point) == 3 else [*point, 2.0 if any(point) else 0.0] for point in points]
        return _Line(int(label), _box_of_centre(numbers[:4]), points=points)
    if header.points is None and len(numbers) == 4:
        return _Line(int(label), _box_of_centre(numbers))
    if header.points is None and len(numbers) >= 6 and len(numbers) % 2 == 0:
        xs, ys = numbers[::2], numbers[1::2]
        box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
        return _Line(int(label), box, polygons=[numbers])
    expected = f"{with_points} numbers" if header.points else "5 numbers (a box), or a class and at least 3 points"
    raise UsageError(f"{where}: expected {expected}, got {len(numbers) + 1} numbers")


def _coordinates(numbers: list[float], header: _Header) -> list[float]:
    """The numbers without the visibility of keypoints."""
    if header.points is None or header.numbers_of_point == 2:
        return numbers
    points = numbers[4:]
    return [*numbers[:4], *points[::3], *points[1::3]]


def _box_of_centre(numbers: Sequence[float]) -> tuple[float, ...]:
    x, y, width, height = numbers
    return x - width / 2, y - height / 2, width, height
