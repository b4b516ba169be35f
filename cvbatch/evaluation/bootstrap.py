"""Bootstrap intervals: how far a metric would move if other images of the same kind had been drawn.

Images are drawn with replacement, and the interval is that of percentiles (Efron and Tibshirani, "An Introduction to
the Bootstrap", 1993, chapter 13). Images that contribute the same to a metric are one group, so that a draw is one
multinomial vector over the groups instead of one index for each image. For a stream, whose length is not known before
its end, each image gets a Poisson weight with mean 1 instead (Chamandy et al., "Estimating Uncertainty for Massive Data
Streams", 2012).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DRAWS: Final = 1000
"""Draws by default."""
LEVEL: Final = 0.95
"""Share of the draws within an interval."""
SEED: Final = 0
"""The same data gives the same interval."""
_FEWEST_DRAWS: Final = 200
_MOST_NUMBERS: Final = 50_000_000
"""Groups times draws; beyond it there are fewer draws."""
_CHUNK_NUMBERS: Final = 4_000_000
"""Numbers that are in memory at once."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric with its interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Plain data; what is not defined is None."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {name: plain_number(number) for name, number in numbers.items()}


def plain_number(number: float | np.floating[Any]) -> float | None:
    """A number for JSON, which has no NaN."""
    return float(number) if np.isfinite(number) else None


def resample_metrics(counts: Ints, metrics: Callable[[Ints], Floats], *, seed: int = SEED) -> Floats:
    """Compute metrics of bootstrap draws.

    Args:
        counts: (groups,) number of images in each group of images that contribute the same.
        metrics: From resampled counts, (draws, groups), to metrics, (draws, ...).
        seed: Seed of the draws.

    Returns:
        (draws, ...) metrics, of fewer draws if there are very many groups.
    """
    return np.concatenate([metrics(chunk) for chunk in _iter_resampled_counts(counts, seed)])


def draw_estimates(values: Floats, draws: Floats, level: float = LEVEL) -> list[Estimate]:
    """Values with the percentile intervals of their draws.

    Args:
        values: (metrics,) of the images as they are.
        draws: (draws, metrics); NaN where a metric is not defined for a draw.
        level: Share of the draws within the interval.
    """
    low, high = interval_bounds(draws, level)
    return [Estimate(*map(float, numbers)) for numbers in zip(values, low, high, strict=True)]


def interval_bounds(draws: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Lower and upper bound of each metric, (metrics,); NaN if no draw defines it.

    Args:
        draws: (draws, metrics); NaN where a metric is not defined for a draw.
        level: Share of the draws within the interval.
    """
    bounds = np.full((2, draws.shape[1]), np.nan)
    is_defined = ~np.isnan(draws).all(axis=0)
    tails = [(1 - level) / 2, (1 + level) / 2]
    if is_defined.any():
        bounds[:, is_defined] = np.nanquantile(draws[:, is_defined], tails, axis=0)
    return bounds[0], bounds[1]


class WeightedSums:
    """Sums of contributions of images, as they are and under the weights of each draw; bounded by draws × width.

    Args:
        width: Numbers that each image contributes.
        draws: Draws.
        seed: Seed of the weights; they do not depend on how the stream is cut into blocks.
    """

    def __init__(self, width: int, *, draws: int = DRAWS, seed: int = SEED) -> None:
        self._generator = np.random.default_rng(seed)
        self.total: Floats = np.zeros(width)
        """(width,) sums of the images as they are."""
        self.draws: Floats = np.zeros((draws, width))
        """(draws, width) sums of each draw."""

    def add_images(self, contributions: npt.NDArray[Any]) -> None:
        """Add a block of images.

        Args:
            contributions: (images, width); a column that is zero costs little.
        """
        weights = self._generator.poisson(1.0, (len(contributions), len(self.draws))).astype(np.float64)
        used = np.flatnonzero(contributions.any(axis=0))
        values = contributions[:, used].astype(np.float64)
        self.total[used] += values.sum(axis=0)
        self.draws[:, used] += weights.T @ values


def _iter_resampled_counts(counts: Ints, seed: int) -> Iterator[Ints]:
    """Draw the images of all groups anew: (draws in the chunk, groups)."""
    generator, images = np.random.default_rng(seed), int(counts.sum())
    draws = max(_FEWEST_DRAWS, min(DRAWS, _MOST_NUMBERS // max(1, len(counts))))
    shares = counts / max(1, images)
    chunk_draws = max(1, _CHUNK_NUMBERS // max(1, len(counts)))
    for first in range(0, draws, chunk_draws):
        yield generator.multinomial(images, shares, size=min(chunk_draws, draws - first))
