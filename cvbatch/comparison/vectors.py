"""Compares embeddings: the cosine between the vectors of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.comparison.base import ComparisonOptions, TaskAgreement, TaskComparer
from cvbatch.comparison.review import ReviewList
from cvbatch.errors import UsageError
from cvbatch.schema import IMAGE_URI
from cvbatch.tasks.embedding import COSINE

_STEPS: Final = 20_000
"""Parts of the range of cosines in which images are counted for the quantiles."""
_QUANTILES: Final = {"1 % of the cosines are below": 0.01, "median cosine": 0.5}


class VectorComparer(TaskComparer):
    """Vectors must have the same length.

    Raises:
        UsageError: If the models give vectors of different lengths.
    """

    def __init__(self, options: ComparisonOptions) -> None:
        super().__init__(options)
        lengths = [model.dimension for model in options.models]
        if lengths[0] != lengths[1]:
            names = [f"{model.alias} with {model.dimension} numbers" for model in options.models]
            raise UsageError(f"expected vectors of the same length; got {names[0]} and {names[1]}")
        self._counts = np.zeros(_STEPS, np.int64)
        self._sum, self._lowest, self._close = 0.0, np.inf, 0
        self._review = ReviewList(options.review)

    @property
    def short_columns(self) -> Sequence[str]:
        """See `TaskComparer.short_columns`."""
        return ("vector",)

    def add_rows(self, first: pa.Table, second: pa.Table) -> None:
        """See `TaskComparer.add_rows`."""
        vectors = [
            _to_matrix(table[f"{model.alias}_vector"])
            for table, model in zip((first, second), self.options.models, strict=True)
        ]
        lengths = np.linalg.norm(vectors[0], axis=1) * np.linalg.norm(vectors[1], axis=1)
        products = np.einsum("ij,ij->i", vectors[0], vectors[1]).astype(np.float64)
        cosines = np.divide(products, lengths, out=np.zeros(len(products)), where=lengths > 0)
        steps = np.clip(((cosines + 1) / 2 * _STEPS).astype(np.int64), 0, _STEPS - 1)
        self._counts += np.bincount(steps, minlength=_STEPS)
        self._sum += float(cosines.sum())
        self._lowest = min(self._lowest, float(cosines.min(initial=np.inf)))
        self._close += int((cosines >= COSINE).sum())
        self._review.add_images(
            np.where(cosines < COSINE, -cosines, np.nan),
            lambda row: {"image": first[IMAGE_URI][row].as_py(), "cosine": float(cosines[row])},
        )

    def finish(self) -> TaskAgreement:
        """See `TaskComparer.finish`."""
        images = int(self._counts.sum())
        if not images:
            return TaskAgreement(images=0, values={})
        below = np.cumsum(self._counts)
        quantiles = {
            name: float((np.searchsorted(below, share * images) + 0.5) / _STEPS * 2 - 1)
            for name, share in _QUANTILES.items()
        }
        values = {
            "mean cosine": self._sum / images,
            "lowest cosine": self._lowest,
            **quantiles,
            f"share of at least {COSINE:g}": self._close / images,
        }
        return TaskAgreement(images=images, values=values, review=self._review.rows())


def _to_matrix(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    lists = column.combine_chunks()
    values: npt.NDArray[np.float32] = pc.list_flatten(lists).to_numpy(zero_copy_only=False).astype(np.float32)
    return values.reshape(len(lists), -1)
