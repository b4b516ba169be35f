"""Finds pairs of vectors whose product may reach a threshold, by products that are fast and a little wrong.

What a screen finds is checked by the caller; what it does not find is below the threshold for certain.
"""

from __future__ import annotations

import time
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

Encoded = npt.NDArray[Any]
"""Vectors (n, width) as a screen stores them."""
Positions = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Rows and columns of the products, (n,)."""

_UNIT_ROUNDOFF: Final = 2.0**-24
"""Of float32."""
_TRIAL_ROWS: Final = 1024
_TORCH_PRODUCTS: Final = 4e11
"""Multiplications from which the import of torch, two seconds, is worth while."""


class ProductScreen(Protocol):
    """One way to compute products of vectors of length 1 at most."""

    name: str

    def encode_vectors(self, vectors: npt.NDArray[np.float32]) -> Encoded:
        """Convert vectors (n, width) for this screen."""

    def find_candidates(self, first: Encoded, second: Encoded, threshold: float) -> Positions:
        """Positions of all pairs whose exact product reaches the threshold, and of a few others.

        Args:
            first: (n, width).
            second: (m, width).
            threshold: Of the exact products.
        """


class FloatScreen:
    """Products in float32, by NumPy."""

    name = "float32"

    def encode_vectors(self, vectors: npt.NDArray[np.float32]) -> Encoded:
        """See `ProductScreen`."""
        return vectors

    def find_candidates(self, first: Encoded, second: Encoded, threshold: float) -> Positions:
        """See `ProductScreen`; a sum of n products is wrong by n times the unit roundoff (Higham 2002, 3.1)."""
        products = first @ second.T
        limit = np.float32(threshold - (first.shape[1] + 2) * _UNIT_ROUNDOFF)
        return positions_from(products, products.max(axis=1, initial=-np.inf) >= limit, limit)


def positions_from(products: npt.NDArray[Any], may_reach: npt.NDArray[np.bool_], limit: Any) -> Positions:
    """Positions of the products (n, m) that reach the limit; only in rows that may."""
    rows = np.flatnonzero(may_reach)
    first, second = np.nonzero(products[rows] >= limit)
    return rows[first], second


def choose_screen(rows: int, width: int) -> ProductScreen:
    """The fastest screen for so many vectors on this machine; large work is tried for some milliseconds.

    Args:
        rows: Number of vectors that are compared with each other.
        width: Numbers of each.
    """
    if rows * rows / 2 * width < _TORCH_PRODUCTS:
        return FloatScreen()
    from cvbatch.inference.torch.bfloat16_screen import BFloat16Screen

    vectors = np.random.default_rng(0).standard_normal((_TRIAL_ROWS, width), np.float32) / np.float32(width)
    screens: tuple[ProductScreen, ...] = (FloatScreen(), BFloat16Screen())
    return min(screens, key=lambda screen: _seconds_of_tile(screen, vectors))


def _seconds_of_tile(screen: ProductScreen, vectors: npt.NDArray[np.float32]) -> float:
    encoded, seconds = screen.encode_vectors(vectors), []
    for _ in range(3):
        started = time.perf_counter()
        screen.find_candidates(encoded, encoded, 1.0)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
