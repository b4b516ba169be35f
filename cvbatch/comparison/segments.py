"""Compares segmentations: the share of pixels with the same class, and the IoU between the two runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.comparison.base import CommonClasses, ComparisonOptions, TaskAgreement, TaskComparer
from cvbatch.comparison.flips import FlipCounts
from cvbatch.comparison.review import ReviewList
from cvbatch.evaluation.bootstrap import plain_number
from cvbatch.evaluation.segment_metrics import count_cells, segment_rates
from cvbatch.evaluation.segmentation import paint_segments
from cvbatch.schema import HEIGHT, IMAGE_URI, WIDTH

_NOTHING = "(nothing)"


class SegmentComparer(TaskComparer):
    """Pixels are compared at the size of the images."""

    batch_rows = 64

    def __init__(self, options: ComparisonOptions) -> None:
        super().__init__(options)
        self._classes = CommonClasses(options.models, options.classes)
        self._names = [*self._classes.names, _NOTHING]
        self._flips = FlipCounts(self._names)
        self._review = ReviewList(options.review)
        self._sums = np.zeros((3, len(self._names)))
        self._images = self._equal_images = self._other_sizes = 0

    @property
    def short_columns(self) -> Sequence[str]:
        """See `TaskComparer.short_columns`."""
        return ("label_ids", "masks")

    def add_rows(self, first: pa.Table, second: pa.Table) -> None:
        """See `TaskComparer.add_rows`."""
        shares = np.full(first.num_rows, np.nan)
        for row in range(first.num_rows):
            maps = [self._paint(table, side, row) for side, table in enumerate((first, second))]
            if maps[0].shape != maps[1].shape:
                self._other_sizes += 1
                continue
            self._images += 1
            shares[row] = self._count_image(maps, str(first[IMAGE_URI][row].as_py()))
        self._equal_images += int((shares == 1).sum())
        self._review.add_images(
            np.where(shares < 1, 1 - shares, np.nan),
            lambda row: {"image": first[IMAGE_URI][row].as_py(), "same_pixels": float(shares[row])},
        )

    def _count_image(self, maps: list[npt.NDArray[np.int32]], image: str) -> float:
        present, cells = count_cells(*maps)
        self._sums[:, present] += [cells.diagonal(), cells.sum(axis=1), cells.sum(axis=0)]
        rows, columns = np.nonzero(cells - np.diag(cells.diagonal()))
        self._flips.add_flips(present[rows], present[columns], lambda _: image, cells[rows, columns])
        return float(cells.trace() / max(1, cells.sum()))

    def _paint(self, table: pa.Table, side: int, row: int) -> npt.NDArray[np.int32]:
        model, numbers = self.options.models[side], self._classes.numbers[side]
        label_ids, masks = (table[f"{model.alias}_{name}"][row].as_py() for name in self.short_columns)
        painted = paint_segments(model, label_ids, masks, (table[HEIGHT][row].as_py(), table[WIDTH][row].as_py()))
        nothing = len(self._names) - 1
        known = np.append(numbers, [nothing, nothing]).astype(np.int32)  # ids that are no category are nothing
        return known[painted]

    def finish(self) -> TaskAgreement:
        """See `TaskComparer.finish`."""
        size = len(self._names)
        chosen = np.append(self._classes.chosen, self._classes.chosen.all())
        rates = segment_rates(self._sums.reshape(1, -1), size, chosen)[0]
        values: dict[str, float | None] = {
            "same pixels": plain_number(rates[size + 1]),
            "mIoU between the runs": plain_number(rates[size]),
            "images without a difference": self._equal_images,
        }
        if self._other_sizes:
            values["images of other sizes"] = self._other_sizes
        per_class: dict[str, dict[str, Any]] = {
            self._names[label]: {
                "first": int(self._sums[1, label]),
                "second": int(self._sums[2, label]),
                "IoU": plain_number(rates[label]),
            }
            for label in np.argsort(-self._sums[1], kind="stable")
            if self._sums[1:, label].any() and chosen[label]
        }
        return TaskAgreement(
            images=self._images,
            values=values,
            flips=self._flips.rows(),
            review=self._review.rows(),
            per_class=per_class,
        )
