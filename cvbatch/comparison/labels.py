"""Compares classifications: the share of images with the same class, and which class became which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cvbatch.comparison.base import CommonClasses, ComparisonOptions, TaskAgreement, TaskComparer
from cvbatch.comparison.flips import FlipCounts
from cvbatch.comparison.review import ReviewList
from cvbatch.schema import IMAGE_URI


class LabelComparer(TaskComparer):
    """Images of a class that one of both models gives, and whose scores are high enough, are compared."""

    batch_rows = 65_536

    def __init__(self, options: ComparisonOptions) -> None:
        super().__init__(options)
        self._classes = CommonClasses(options.models, options.classes)
        self._flips = FlipCounts(self._classes.names)
        self._review = ReviewList(options.review)
        self._images = self._same = 0
        self._differences = 0.0

    @property
    def short_columns(self) -> Sequence[str]:
        """See `TaskComparer.short_columns`."""
        return ("label_id", "score")

    def add_rows(self, first: pa.Table, second: pa.Table) -> None:
        """See `TaskComparer.add_rows`."""
        tables, models = (first, second), self.options.models
        labels = [
            numbers[table[f"{model.alias}_label_id"].to_numpy()]
            for table, model, numbers in zip(tables, models, self._classes.numbers, strict=True)
        ]
        scores = np.stack(
            [table[f"{model.alias}_score"].to_numpy() for table, model in zip(tables, models, strict=True)]
        )
        counts = self._classes.chosen[labels[0]] | self._classes.chosen[labels[1]]
        if self.options.min_score is not None:
            counts &= scores.min(axis=0) >= self.options.min_score
        differ = counts & (labels[0] != labels[1])
        self._images += int(counts.sum())
        self._same += int((counts & ~differ).sum())
        self._differences += float(np.abs(scores[0] - scores[1])[counts & ~differ].sum())

        def describe(row: int) -> dict[str, Any]:
            names = [self._classes.names[side[row]] for side in labels]
            return {
                "image": first[IMAGE_URI][row].as_py(),
                "first": names[0],
                "second": names[1],
                "first_score": float(scores[0, row]),
                "second_score": float(scores[1, row]),
            }

        rows = np.flatnonzero(differ)
        self._flips.add_flips(labels[0][rows], labels[1][rows], lambda index: describe(int(rows[index]))["image"])
        # both are sure, and do not agree
        self._review.add_images(np.where(differ, scores.min(axis=0), np.nan), describe)

    def finish(self) -> TaskAgreement:
        """See `TaskComparer.finish`."""
        values = {
            "same class": self._same / self._images if self._images else None,
            "images that differ": self._images - self._same,
            "mean score difference where equal": self._differences / self._same if self._same else None,
        }
        return TaskAgreement(images=self._images, values=values, flips=self._flips.rows(), review=self._review.rows())
