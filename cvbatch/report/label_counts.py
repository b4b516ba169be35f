"""How often a model gives each label, and how sure it is."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from cvbatch.report.label_values import LabelReader
from cvbatch.report.page_data import LabelCount, LabelSection, LabelShares, ScoreHistogram

BINS: Final = 50
_HISTOGRAM_LABELS: Final = 30
_SHOWN_LABELS: Final = 1000
_DIGITS: Final = 4


class LabelCounter:
    """Counts the labels of one model.

    Args:
        reader: Of the model.
    """

    def __init__(self, reader: LabelReader) -> None:
        self.reader, labels = reader, len(reader.names)
        self.images, self.elements = np.zeros(labels, np.int64), np.zeros(labels, np.int64)
        self._sums = np.zeros(labels)
        self._bins = np.zeros((labels, BINS), np.int64)

    @property
    def columns(self) -> list[str]:
        """As a `RowCollector`."""
        return self.reader.columns

    def add_rows(self, rows: pa.Table) -> None:
        """Count some rows."""
        values, labels = self.reader.read(rows), len(self.images)
        pairs = np.unique(values.owners * labels + values.codes)
        self.images += np.bincount(pairs % labels, minlength=labels)
        self.elements += np.bincount(values.codes, minlength=labels)
        if values.scores is not None:
            self._sums += np.bincount(values.codes, values.scores, labels)
            bins = np.clip((values.scores * BINS).astype(np.int64), 0, BINS - 1)
            self._bins += np.bincount(values.codes * BINS + bins, minlength=labels * BINS).reshape(labels, BINS)

    def most_frequent(self, count: int) -> list[int]:
        """Codes of the labels in the most images, the most frequent first."""
        order = np.lexsort((np.arange(len(self.images)), -self.images))
        return [int(code) for code in order[:count] if self.images[code]]

    def rarest(self, count: int) -> list[int]:
        """Codes of the labels in the fewest images that have any, the rarest first."""
        order = np.lexsort((np.arange(len(self.images)), self.images))
        return [int(code) for code in order if self.images[code]][:count]

    def to_section(self, shares: list[LabelShares]) -> LabelSection:
        """What the page shows.

        Args:
            shares: Of the labels, over groups of images.
        """
        shown, names = self.most_frequent(_SHOWN_LABELS), self.reader.names
        histogram = None
        if self.reader.has_scores:
            by_label = {names[code]: self._bins[code].tolist() for code in shown[:_HISTOGRAM_LABELS]}
            histogram = ScoreHistogram(self._bins.sum(axis=0).tolist(), by_label)
        return LabelSection(
            alias=self.reader.model.alias,
            task=self.reader.model.task,
            counts=[self._count_of(code) for code in shown],
            other_labels=int(np.count_nonzero(self.images)) - len(shown),
            shares=shares,
            histogram=histogram,
        )

    def _count_of(self, code: int) -> LabelCount:
        elements = int(self.elements[code])
        mean = round(float(self._sums[code]) / elements, _DIGITS) if self.reader.has_scores else None
        return LabelCount(self.reader.names[code], int(self.images[code]), elements, mean)
