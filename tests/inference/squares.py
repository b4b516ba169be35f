"""A detector without mistakes: it finds squares of plain colours, each colour a class."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from PIL import Image as Pictures

from cvbatch.images.preprocess import Size, View
from cvbatch.images.tiles import Tiles
from cvbatch.inference.network import Answers, Image
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.detection import BoxAnswer

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def spec(tiles: Tiles | None = None, alias: str = "found") -> ModelSpec:
    return ModelSpec(
        alias=alias,
        task="detection",
        kind="python",
        name="m:f",
        view=View(tiles=tiles),
        categories=("red", "green", "blue"),
    )


class Squares:
    """Keeps the number of images of each batch."""

    parallel = False

    def __init__(self) -> None:
        self.batches: list[int] = []

    def use_threads(self, count: int) -> None: ...

    def batch_key(self, image: Image) -> Hashable:
        return image.shape

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        self.batches.append(len(images))
        scales = [np.tile(np.array(size) / image.shape[1::-1], 2) for image, size in zip(images, sizes, strict=True)]
        answers = [_find(image, scale) for image, scale in zip(images, scales, strict=True)]
        return {each.alias: answers for each in specs}


def _find(image: Image, scale: np.ndarray) -> BoxAnswer:
    boxes, labels = [], []
    for label, colour in enumerate(COLOURS):
        rows, columns = np.nonzero((image == colour).all(axis=2))
        if len(rows) >= 16:
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            labels.append(label)
    array = np.array(boxes, np.float32).reshape(-1, 4) * scale
    return BoxAnswer(
        boxes=array.astype(np.float32), label_ids=np.array(labels, np.int64), scores=np.full(len(labels), 0.9)
    )


def picture(size: Size, squares: Sequence[tuple[int, int, int, int]]) -> Pictures.Image:
    """A picture with squares (left, top, side, class)."""
    image = Pictures.new("RGB", size, "white")
    for left, top, side, label in squares:
        image.paste(COLOURS[label], (left, top, left + side, top + side))
    return image


def truth(squares: Sequence[tuple[int, int, int, int]]) -> list[tuple[list[float], str]]:
    """Boxes and labels of squares, in order."""
    names = ("red", "green", "blue")
    return sorted(
        ([float(x), float(y), float(x + side), float(y + side)], names[label]) for x, y, side, label in squares
    )
