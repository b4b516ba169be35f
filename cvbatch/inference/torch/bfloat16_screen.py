"""Products of many vectors in bfloat16, which CPUs with AMX or AVX512-BF16 compute two to ten times as fast."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

_UNIT_ROUNDOFF: Final = 2.0**-8
"""Of bfloat16: the largest relative error of rounding."""
_SUM_ROUNDOFF: Final = 2.0**-24
"""Sums are float32."""


class BFloat16Screen:
    """Products in bfloat16; see `cvbatch.similarity.product_screen.ProductScreen`.

    With |x| ≤ 1, |y| ≤ 1 and rounded vectors x + a, y + b, the product is wrong by at most |a| + |b| + |a||b|
    (Cauchy and Schwarz). The largest |a| of all vectors is measured when they are encoded; it is about a third of the
    worst case.
    """

    name = "bfloat16"

    def __init__(self) -> None:
        self._largest_error = 0.0
        self._products = torch.empty(0, dtype=torch.bfloat16)

    def __getstate__(self) -> dict[str, float]:
        """Other processes make a table of products of their own."""
        return {"largest_error": self._largest_error}

    def __setstate__(self, state: dict[str, float]) -> None:
        self.__init__()  # type: ignore[misc]
        self._largest_error = state["largest_error"]

    def encode_vectors(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
        """Convert vectors (n, width); the bits are kept as int16, because NumPy has no bfloat16."""
        exact = torch.from_numpy(np.ascontiguousarray(vectors))
        rounded = exact.to(torch.bfloat16)
        if len(vectors):
            error = float((rounded.to(torch.float32) - exact).norm(dim=1).max())
            self._largest_error = max(self._largest_error, error)
        encoded: npt.NDArray[np.int16] = rounded.view(torch.int16).numpy()
        return encoded

    def find_candidates(self, first: Any, second: Any, threshold: float) -> tuple[Any, Any]:
        """See `ProductScreen`. Positive bfloat16 numbers are in the order of their bits as int16."""
        limit = self._encoded_limit(threshold, first.shape[1])
        one, other = (torch.from_numpy(encoded).view(torch.bfloat16) for encoded in (first, second))
        if self._products.numel() < len(first) * len(second):
            self._products = torch.empty(len(first) * len(second), dtype=torch.bfloat16)
        products = self._products[: len(first) * len(second)].view(len(first), len(second))
        torch.mm(one, other.T, out=products)
        bits = products.view(torch.int16).numpy()
        rows = np.flatnonzero(bits.max(axis=1, initial=np.iinfo(np.int16).min) >= limit)
        row_indices, columns = np.nonzero(bits[rows] >= limit)
        return rows[row_indices], columns

    def _encoded_limit(self, threshold: float, width: int) -> int:
        """The smallest result, as bits, that a pair which reaches the threshold may have."""
        error = 2 * self._largest_error + self._largest_error**2 + (width + 2) * _SUM_ROUNDOFF
        lowest = max((threshold - error) * (1 - _UNIT_ROUNDOFF), 0.0)
        rounded = torch.tensor(lowest, dtype=torch.float32).to(torch.bfloat16)
        if float(rounded) > lowest:
            return int(rounded.view(torch.int16)) - 1
        return int(rounded.view(torch.int16))
