"""Targets of segmentation: for each image a map of label ids."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from cvbatch.errors import UsageError
from cvbatch.schema import HEIGHT, WIDTH
from cvbatch.training.target_column import Targets, expect_same_size, rarest_classes
from cvbatch.truth.base import IGNORED, Ints, Truth
from cvbatch.truth.mask_files import PixelTruth
from cvbatch.truth.names import comparable_name, list_examples
from cvbatch.truth.painted_objects import BACKGROUND_NAME

_MOST_CLASSES: Final = 254
"""A byte has 256 values, and one stands for what does not count."""
_NOT_COUNTED: Final = 255
LabelMap = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]


def map_targets(truth: Truth, positions: Ints, images: pa.Table) -> Targets:
    """A map of label ids for each image; each is read and checked here, and stored as a PNG.

    The background, if the truth has one, is label id 0. Classes without a pixel are left out.

    Args:
        truth: A `PixelTruth`.
        positions: (images,) of each image in the truth.
        images: With their sizes.

    Raises:
        UsageError: If a map cannot be used, or there are fewer than two classes.
    """
    assert isinstance(truth, PixelTruth), "the readers of segmentation give label maps"
    sizes = list(zip(images[WIDTH].to_pylist(), images[HEIGHT].to_pylist(), strict=True))
    packed, counts = list[bytes](), np.zeros((len(positions), len(truth.categories)), np.int64)
    for row, (position, size) in enumerate(zip(positions.tolist(), sizes, strict=True)):
        labels = _read_map(truth, position, size)
        counts[row] = np.bincount(labels[labels != IGNORED], minlength=len(truth.categories))
        packed.append(zlib.compress(labels.tobytes(), 1))
    order = _label_order(truth, counts)
    numbers = np.full(len(truth.categories) + 1, _NOT_COUNTED, np.uint8)  # the last one is that of `IGNORED`
    numbers[order] = np.arange(len(order))
    maps = [
        _encode_map(numbers[np.frombuffer(zlib.decompress(data), np.int16).reshape(size[::-1])])
        for data, size in zip(packed, sizes, strict=True)
    ]
    has_background = _background_of(truth) == order[0]
    names = [truth.categories[index] for index in order]
    shown = [BACKGROUND_NAME, *names[1:]] if has_background else names
    pixels = counts.sum(axis=0)
    unused = [name for index, name in enumerate(truth.categories) if index not in order]
    is_listed = truth.categories[0] != "0"  # without a list of names, all values of a byte are classes
    notes = (
        [f"classes of the truth without a pixel are left out: {list_examples(unused)}"] if unused and is_listed else []
    )
    return Targets(
        categories=(None, *names[1:]) if has_background else tuple(names),
        column=pa.array(maps, pa.binary()),
        strata=rarest_classes(counts[:, order[1:] if has_background else order] > 0),
        counts={name: int(pixels[index]) for name, index in zip(shown, order, strict=True)},
        notes=notes,
    )


def decode_map(data: bytes) -> LabelMap:
    """Read a stored map: (height, width) of label ids, 255 for what does not count."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


def as_label_map(stored: LabelMap) -> npt.NDArray[np.int64]:
    """The same map with `IGNORED` for what does not count."""
    return np.where(stored == _NOT_COUNTED, IGNORED, stored.astype(np.int64))


def _encode_map(labels: LabelMap) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def _read_map(truth: PixelTruth, position: int, size: tuple[int, int]) -> npt.NDArray[np.int16]:
    """Positions in the categories of the truth, or `IGNORED`."""
    name = truth.image_names[position]
    labels = truth.read_map(position, size[1], size[0])
    problem = expect_same_size(truth.source, name, (labels.shape[1], labels.shape[0]), size)
    if problem is not None:
        raise UsageError(problem)
    if labels.max(initial=0) >= len(truth.categories):
        raise UsageError(
            f"{truth.source}: expected values from 0 to {len(truth.categories) - 1} in the mask of {name}, one for "
            "each class; got a greater one: name its class, or give it as truth.ignored_value"
        )
    return np.ascontiguousarray(labels, np.int16)


def _background_of(truth: PixelTruth) -> int | None:
    """Position of the background in the categories of the truth."""
    if truth.background is not None:
        return truth.background
    names = [comparable_name(name) for name in truth.categories]
    return names.index(BACKGROUND_NAME) if BACKGROUND_NAME in names else None


def _label_order(truth: PixelTruth, counts: Counts) -> Sequence[int]:
    """Positions of the classes that occur, the background first."""
    used = np.flatnonzero(counts.any(axis=0)).tolist()
    background = _background_of(truth)
    order = [index for index in used if index != background]
    if background is not None:
        order.insert(0, background)
    if len(used) < 2:
        got = f"only {truth.categories[used[0]]!r}" if used else "no pixel that counts"
        raise UsageError(
            f"{truth.source}: expected pixels of at least two classes, the background among them; got {got} in "
            f"{len(counts):,} images"
        )
    if len(order) > _MOST_CLASSES:
        raise UsageError(f"{truth.source}: expected at most {_MOST_CLASSES} classes, got {len(order):,}")
    return order
