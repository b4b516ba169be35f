"""Compares detections: boxes of the same class that overlap agree, boxes of another class are flips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.comparison.base import CommonClasses, ComparisonOptions, TaskAgreement, TaskComparer
from cvbatch.comparison.box_matching import match_boxes
from cvbatch.comparison.flips import FlipCounts
from cvbatch.comparison.review import ReviewList
from cvbatch.schema import IMAGE_URI
from cvbatch.tasks.detection import BOX_SCORE

SAME_PLACE: Final = 0.5
"""Intersection over union from which two boxes are of one object, as in Pascal VOC."""
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Boxes:
    """The boxes of some images that count; aligned."""

    images: Ints
    labels: Ints
    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]

    def without(self, taken: Ints) -> _Boxes:
        kept = np.ones(len(self.images), np.bool_)
        kept[taken] = False
        return _Boxes(self.images[kept], self.labels[kept], self.boxes[kept], self.scores[kept])


class BoxComparer(TaskComparer):
    """Boxes below the least score, 0.3 by default, do not count."""

    batch_rows = 1024

    def __init__(self, options: ComparisonOptions) -> None:
        super().__init__(options)
        self._classes = CommonClasses(options.models, options.classes)
        self._min_score = BOX_SCORE if options.min_score is None else options.min_score
        self._flips = FlipCounts(self._classes.names)
        self._review = ReviewList(options.review)
        size = len(self._classes.names)
        self._totals = np.zeros((3, size), np.int64)
        self._images = self._equal_images = self._flipped = 0

    @property
    def short_columns(self) -> Sequence[str]:
        """See `TaskComparer.short_columns`."""
        return ("boxes", "label_ids", "scores")

    def add_rows(self, first: pa.Table, second: pa.Table) -> None:
        """See `TaskComparer.add_rows`."""
        sides = [self._read_boxes(table, side) for side, table in enumerate((first, second))]
        size = len(self._classes.names)
        keys = [side.images * size + side.labels for side in sides]
        same = match_boxes(keys[0], sides[0].boxes, keys[1], sides[1].boxes, SAME_PLACE)
        self._totals[0] += np.bincount(sides[0].labels[same[0]], minlength=size)
        for row, side in enumerate(sides):
            self._totals[row + 1] += np.bincount(side.labels, minlength=size)
        rest = [side.without(taken) for side, taken in zip(sides, same, strict=True)]
        flips = match_boxes(rest[0].images, rest[0].boxes, rest[1].images, rest[1].boxes, SAME_PLACE)
        self._flipped += len(flips[0])
        images = rest[0].images[flips[0]]
        self._flips.add_flips(
            rest[0].labels[flips[0]],
            rest[1].labels[flips[1]],
            lambda index: str(first[IMAGE_URI][int(images[index])].as_py()),
        )
        self._rank_images(first, rest)

    def _rank_images(self, first: pa.Table, rest: list[_Boxes]) -> None:
        """Images by the sum of the scores of their boxes without a counterpart of the same class."""
        count = first.num_rows
        without = [np.bincount(side.images, minlength=count) for side in rest]
        priorities = sum(np.bincount(side.images, side.scores, count) for side in rest)
        differs = (without[0] + without[1]) > 0
        self._images += count
        self._equal_images += int((~differs).sum())

        def describe(row: int) -> dict[str, Any]:
            return {
                "image": first[IMAGE_URI][row].as_py(),
                "only_first": self._list_labels(rest[0], row),
                "only_second": self._list_labels(rest[1], row),
            }

        self._review.add_images(np.where(differs, priorities, np.nan), describe)

    def _list_labels(self, side: _Boxes, row: int) -> str:
        labels = side.labels[side.images == row]
        return ", ".join(self._classes.names[label] for label in labels[:10]) + (" …" if len(labels) > 10 else "")

    def _read_boxes(self, table: pa.Table, side: int) -> _Boxes:
        alias = self.options.models[side].alias
        lists = {name: table[f"{alias}_{name}"].combine_chunks() for name in self.short_columns}
        images = pc.list_parent_indices(lists["scores"]).to_numpy().astype(np.int64)
        labels = self._classes.numbers[side][pc.list_flatten(lists["label_ids"]).to_numpy()].astype(np.int64)
        scores = pc.list_flatten(lists["scores"]).to_numpy().astype(np.float64)
        boxes = pc.list_flatten(pc.list_flatten(lists["boxes"])).to_numpy().astype(np.float64).reshape(-1, 4)
        kept = (scores >= self._min_score) & self._classes.chosen[labels]
        return _Boxes(images[kept], labels[kept], boxes[kept], scores[kept])

    def finish(self) -> TaskAgreement:
        """See `TaskComparer.finish`."""
        same, first, second = self._totals
        total = int(first.sum() + second.sum())
        values = {
            "matched boxes": 2 * int(same.sum()) / total if total else None,
            "boxes of the first": int(first.sum()),
            "boxes of the second": int(second.sum()),
            "boxes with another class": self._flipped,
            "images without a difference": self._equal_images,
        }
        per_class = {
            self._classes.names[label]: {
                "first": int(first[label]),
                "second": int(second[label]),
                "matched": 2 * int(same[label]) / int(first[label] + second[label]),
            }
            for label in np.argsort(-(first + second), kind="stable")
            if first[label] + second[label]
        }
        return TaskAgreement(
            images=self._images,
            values=values,
            flips=self._flips.rows(),
            review=self._review.rows(),
            per_class=per_class,
        )
