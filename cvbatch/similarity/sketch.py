"""Short vectors whose products are never smaller than the cosines of the long ones.

A unit vector x is turned so that its first coordinates hold most of its length (the main directions of all vectors,
without centring). With p the first coordinates and r the length of the rest, the inequality of Cauchy and Schwarz gives
x·y ≤ p(x)·p(y) + r(x) r(y), which is the product of the sketches (p, r). Pairs below the threshold there are below it
for certain, at a tenth of the multiplications.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.similarity.image_vectors import VectorFile
from cvbatch.similarity.product_screen import Encoded, ProductScreen

SLACK: Final = 1e-5
"""Subtracted from thresholds: the error of turning float32 vectors, measured below 1e-6 at 2,048 numbers."""
_SQUARE_SLACK: Final = 2e-6
"""Added to r²: the error of p² in float32, so that r is never too short."""
_WIDTHS: Final = (64, 128, 256, 512)
"""Narrower sketches are compared no faster than those of 64 numbers."""
_SAMPLE_ROWS: Final = 2048
_BASIS_ROWS: Final = 16_384
_CHECK_COST: Final = 400
"""Cost of checking one pair, in multiplications of the screen for each number of the vectors."""


@dataclass(frozen=True, slots=True)
class SketchBasis:
    """How vectors become sketches."""

    directions: npt.NDArray[np.float32] | None
    """Orthonormal columns, (dimension, width − 1); None if the sketch is the whole vector."""
    width: int

    def project(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Sketches (n, width) of unit vectors (n, dimension)."""
        if self.directions is None:
            return vectors
        main = vectors @ self.directions
        squares = np.maximum(1 - np.einsum("ij,ij->i", main, main, dtype=np.float64), 0) + _SQUARE_SLACK
        return np.concatenate([main, np.sqrt(squares).astype(np.float32)[:, None]], axis=1)


def choose_basis(vectors: VectorFile, threshold: float) -> SketchBasis:
    """Choose the width with the least work: narrow sketches are compared faster, and leave more pairs to check.

    Args:
        vectors: All vectors.
        threshold: Smallest cosine of pairs that matter.
    """
    dimension, rows = vectors.dimension, len(vectors)
    whole = SketchBasis(None, dimension)
    widths = [width for width in _WIDTHS if width * 2 <= dimension]
    if not widths or rows < _SAMPLE_ROWS:
        return whole
    directions = _main_directions(vectors.unit_vectors(_spread_rows(rows, _BASIS_ROWS)), max(widths) - 1)
    sample = vectors.unit_vectors(_spread_rows(rows, _SAMPLE_ROWS))
    choices = {dimension: (whole, float(dimension))}
    for width in widths:
        basis = SketchBasis(np.ascontiguousarray(directions[:, : width - 1]), width)
        sketches = basis.project(sample)
        candidates = np.count_nonzero(sketches @ sketches.T >= threshold - SLACK) - len(sample)
        share = candidates / (len(sample) * (len(sample) - 1))
        choices[width] = (basis, width + share * _CHECK_COST * dimension)
    return min(choices.values(), key=lambda choice: choice[1])[0]


def encode_sketches(vectors: VectorFile, basis: SketchBasis, screen: ProductScreen) -> Encoded:
    """Sketches of all vectors, as the screen stores them: (n, width)."""
    encoded: Encoded | None = None
    for start, block in vectors.iter_blocks():
        part = screen.encode_vectors(basis.project(block))
        if encoded is None:
            encoded = np.empty((len(vectors), basis.width), part.dtype)
        encoded[start : start + len(part)] = part
    return np.empty((0, basis.width), np.float32) if encoded is None else encoded


def _main_directions(vectors: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """Eigenvectors of the largest eigenvalues of the second moments: orthonormal columns (dimension, count)."""
    moments = (vectors.T @ vectors).astype(np.float64)
    values, directions = np.linalg.eigh(moments)
    order = np.argsort(-values)[:count]
    return directions[:, order].astype(np.float32)


def _spread_rows(rows: int, count: int) -> npt.NDArray[np.int64]:
    """Row numbers at equal distances."""
    return np.unique(np.linspace(0, rows - 1, min(count, rows)).astype(np.int64))
