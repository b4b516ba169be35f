"""Images as points of a plane, so that those with alike embeddings are near each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.models.spec import ModelSpec
from cvbatch.report.label_values import LabelReader
from cvbatch.report.page_data import EmbeddingMap
from cvbatch.report.scanning import scan_rows
from cvbatch.results.best_rows import BestRows, random_numbers
from cvbatch.results.committed import OpenedOutput
from cvbatch.schema import ROW_ID
from cvbatch.similarity.image_vectors import take_vectors, to_unit_vectors, vector_column

MOST_POINTS: Final = 2000
_FEWEST_POINTS: Final = 10
_LABELS: Final = 20
_SEED: Final = 0
_FEATURES: Final = 50
"""Directions of the vectors that t-SNE sees: those with the most variance."""
_PERPLEXITY: Final = 30
_DIGITS: Final = 4

Points = npt.NDArray[np.float64]


class MapRows:
    """Keeps the images of the page, and others by chance, with their vectors.

    Args:
        embedding: The model of the vectors.
        reader: Of the model whose first labels colour the points, or None.
        shown: Row ids of the images of the page, which come first.
        limit: Most images.
    """

    def __init__(
        self, embedding: ModelSpec, reader: LabelReader | None, shown: Collection[int], limit: int = MOST_POINTS
    ) -> None:
        self._embedding, self._reader, self._best = embedding, reader, BestRows(limit)
        self._shown = np.array(sorted(shown), np.int64)
        self.images = 0
        """With a vector."""

    @property
    def columns(self) -> list[str]:
        """As a `RowCollector`."""
        return [ROW_ID, vector_column(self._embedding), *([] if self._reader is None else self._reader.lead_columns)]

    def add_rows(self, rows: pa.Table) -> None:
        """Take some rows."""
        usable = rows.take(pa.array(take_vectors(rows, self._embedding).positions))
        if usable.num_rows:
            self.images += usable.num_rows
            row_ids = usable[ROW_ID].to_numpy()
            numbers = random_numbers(row_ids, _SEED) + np.isin(row_ids, self._shown)
            self._best.add_rows(usable.select(self.columns), numbers)

    def finish(self) -> EmbeddingMap | None:
        """The map; None of too few images."""
        rows = self._best.finish()
        if rows is None or rows.num_rows < _FEWEST_POINTS:
            return None
        points, method = place_points(to_unit_vectors(take_vectors(rows, self._embedding).vectors))
        labels, label_of_point = self._name_labels(rows)
        return EmbeddingMap(
            alias=self._embedding.alias,
            method=f"{method} of {rows.num_rows:,} of {self.images:,} images",
            row_ids=rows[ROW_ID].to_pylist(),
            points=[(x, y) for x, y in points.round(_DIGITS).tolist()],
            labels=labels,
            label_of_point=label_of_point,
        )

    def _name_labels(self, rows: pa.Table) -> tuple[list[str], list[int]]:
        if self._reader is None:
            return [], [-1] * rows.num_rows
        codes = self._reader.read_leads(rows).codes.tolist()
        frequent = [code for code, _ in Counter(code for code in codes if code >= 0).most_common(_LABELS)]
        numbers = {code: number for number, code in enumerate(frequent)}
        return [self._reader.names[code] for code in frequent], [numbers.get(code, -1) for code in codes]


def draw_maps(
    opened: OpenedOutput, embedding: ModelSpec | None, readers: list[LabelReader], shown: Collection[int]
) -> list[EmbeddingMap]:
    """Draw the map of a run, if it has embeddings.

    Args:
        opened: The run.
        embedding: The model of the vectors, or None.
        readers: Of the models with labels; the first one colours the points.
        shown: Row ids of the images of the page.
    """
    if embedding is None:
        return []
    rows = MapRows(embedding, readers[0] if readers else None, shown)
    scan_rows(opened, [rows])
    drawn = rows.finish()
    return [] if drawn is None else [drawn]


def place_points(vectors: npt.NDArray[np.float32]) -> tuple[Points, str]:
    """Place vectors on a plane, by t-SNE where openTSNE is installed.

    Args:
        vectors: (n, dimension), of length 1.

    Returns:
        (n, 2) from 0 to 1, and the name of the method.
    """
    components = principal_components(vectors, _FEATURES)
    points, method = components[:, :2], "PCA"
    if find_spec("openTSNE") is not None and len(vectors) > 3 * _PERPLEXITY:
        points, method = _embed_by_tsne(components), "t-SNE"
    low, high = points.min(axis=0), points.max(axis=0)
    shares: Points = (points - low) / np.maximum(high - low, 1e-12)
    return shares, method


def principal_components(vectors: npt.NDArray[np.float32], count: int) -> Points:
    """Coordinates along the directions with the most variance: (n, count), at least two of them.

    Args:
        vectors: (n, dimension)
        count: Most directions.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    best = directions[:, np.argsort(-variances)[:count]]
    largest = np.abs(best).argmax(axis=0)
    best *= np.sign(best[largest, np.arange(best.shape[1])])  # the sign of a direction is arbitrary
    components: Points = centred @ best
    return np.pad(components, ((0, 0), (0, max(0, 2 - components.shape[1]))))


def _embed_by_tsne(components: Points) -> Points:
    from openTSNE import TSNE

    tsne: Any = TSNE(perplexity=_PERPLEXITY, initialization="pca", random_state=_SEED, n_jobs=1)
    return np.asarray(tsne.fit(components), np.float64)
