"""Choosing one candidate after the other: never two near duplicates, and never more of a class than asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.sampling.list_values import list_matrix
from cvbatch.sampling.measures import LABEL_ID
from cvbatch.schema import CONTENT_SHA256

_BLOCK_ROWS: Final = 1024
NO_COSINE: Final = -2.0
"""In place of a cosine where there is nothing to compare with."""


class Selection:
    """The candidates that are chosen so far, and those that may still be chosen.

    Args:
        candidates: The candidates, with `content_sha256` and `label_id`.
        excluded: Rows that are labelled already: nothing like them is chosen.
        vector_column: Column of the embedding in both; None if only equal files count as duplicates.
        max_cosine: Two images whose vectors have at least this cosine are near duplicates.
        budget: Most images of each label id; a label id without one has no limit.
    """

    def __init__(
        self,
        candidates: pa.Table,
        excluded: pa.Table,
        *,
        vector_column: str | None,
        max_cosine: float,
        budget: Mapping[int, int],
    ) -> None:
        self.indices: list[int] = []
        """Positions of the chosen candidates, in their order."""
        self.neighbours: list[tuple[float, int]] = []
        """For each chosen one, the values of `nearest` and `nearest_chosen` when it was chosen."""
        self.vectors = unit_vectors(candidates, vector_column)
        """float32 (candidates, dimension) of length 1; without an embedding the dimension is 0."""
        self.nearest = np.full(candidates.num_rows, NO_COSINE, np.float32)
        """(candidates,), the highest cosine with anything that is chosen or excluded; `NO_COSINE` if there is none."""
        self.nearest_chosen = np.full(candidates.num_rows, -1, np.int64)
        """(candidates,), which candidate that is; -1 if none, or an excluded one."""
        self._max_cosine = max_cosine
        self._label_ids = candidates[LABEL_ID].to_numpy()
        self._budget = dict(budget)
        self._digests = _as_codes(candidates, excluded)
        self._is_open = ~np.isin(self._digests, self._digests[candidates.num_rows :])[: candidates.num_rows]
        self._exclude(unit_vectors(excluded, vector_column))

    @property
    def open(self) -> npt.NDArray[np.bool_]:
        """(candidates,), whether each may still be chosen."""
        return self._is_open

    def add(self, index: int) -> None:
        """Choose a candidate that is open, and close those that may not come after it."""
        self.neighbours.append((float(self.nearest[index]), int(self.nearest_chosen[index])))
        cosines = self.vectors @ self.vectors[index]
        if self.vectors.shape[1]:
            closer = cosines > self.nearest
            self.nearest[closer], self.nearest_chosen[closer] = cosines[closer], index
            self._is_open &= cosines < self._max_cosine
        count = len(self._is_open)
        self._is_open &= self._digests[:count] != self._digests[index]
        self._is_open[index] = False
        self.indices.append(index)
        label_id = int(self._label_ids[index])
        if label_id in self._budget:
            self._budget[label_id] -= 1
            if self._budget[label_id] <= 0:
                self._is_open &= self._label_ids != label_id

    def _exclude(self, vectors: npt.NDArray[np.float32]) -> None:
        if not vectors.size or not self.vectors.size:
            return
        for start in range(0, len(vectors), _BLOCK_ROWS):
            cosines = (self.vectors @ vectors[start : start + _BLOCK_ROWS].T).max(axis=1)
            self.nearest = np.maximum(self.nearest, cosines)
        self._is_open &= self.nearest < self._max_cosine


def unit_vectors(rows: pa.Table, column: str | None) -> npt.NDArray[np.float32]:
    """Vectors of length 1: float32 (rows, dimension); a vector of zeros stays one."""
    if column is None or not rows.num_rows:
        return np.empty((rows.num_rows, 0), np.float32)
    vectors = list_matrix(rows, column).astype(np.float32)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    vectors /= np.maximum(lengths, np.finfo(np.float32).tiny).astype(np.float32)
    return vectors


def _as_codes(candidates: pa.Table, excluded: pa.Table) -> npt.NDArray[Any]:
    """A number for each content, of the candidates and then of the excluded rows."""
    names = pa.concat_tables([candidates.select([CONTENT_SHA256]), excluded.select([CONTENT_SHA256])])[CONTENT_SHA256]
    encoded = names.combine_chunks().dictionary_encode()
    codes: npt.NDArray[Any] = encoded.indices.fill_null(-1).to_numpy().copy()
    unknown = codes < 0  # each counts as a content of its own
    codes[unknown] = -1 - np.arange(int(unknown.sum()))
    return codes
