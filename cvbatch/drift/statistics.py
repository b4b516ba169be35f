"""How far two samples are apart, and how likely that is by chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = npt.NDArray[np.floating[Any]]
PERMUTATIONS: Final = 499
"""The smallest p is 1 / 500, so that ten signals can still pass Holm's correction at 0.05."""
_TERMS: Final = 100


class Shift(NamedTuple):
    """The difference of two samples."""

    effect: float
    """From 0 (none) to 1 (nothing in common)."""
    p: float
    """How likely at least this difference is if both come from the same source."""


def compare_values(reference: Values, values: Values) -> Shift:
    """Compare two samples of numbers by Kolmogorov and Smirnov: the largest difference of their distributions.

    p is asymptotic with Stephens' correction (Press et al., Numerical Recipes, 14.3); with ties it is too large rather
    than too small.

    Args:
        reference: (n,)
        values: (m,)
    """
    first, second = np.sort(reference), np.sort(values)
    every = np.concatenate([first, second])
    below = [np.searchsorted(part, every, "right") / len(part) for part in (first, second)]
    distance = float(np.abs(below[0] - below[1]).max())
    size = np.sqrt(len(first) * len(second) / len(every))
    argument = (size + 0.12 + 0.11 / size) * distance
    if argument < 0.2:  # the series does not converge, and p is 1 to eight digits
        return Shift(distance, 1.0)
    terms = np.arange(1, _TERMS)
    p = 2 * float((np.where(terms % 2, 1, -1) * np.exp(-2 * (terms * argument) ** 2)).sum())
    return Shift(distance, min(max(p, 0.0), 1.0))


def compare_counts(reference: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], seed: int) -> Shift:
    """Compare the classes of two samples by the total variation of their shares, with a permutation test.

    Chance alone gives many classes a total variation over 0, so its mean under permutation is subtracted.

    Args:
        reference: (classes,), how many images each class has.
        counts: (classes,), the same of the other sample.
        seed: Of the permutations.
    """
    totals, size = reference + counts, int(counts.sum())
    observed = _total_variation(counts[None], totals, size)[0]
    draws = np.random.default_rng(seed).multivariate_hypergeometric(totals, size, PERMUTATIONS, method="marginals")
    by_chance = _total_variation(draws, totals, size)
    return Shift(max(0.0, float(observed - by_chance.mean())), permutation_p(float(observed), by_chance))


def permutation_p(observed: float, by_chance: Values) -> float:
    """The share of permutations with at least the observed value, which counts as one of them."""
    return float((1 + np.count_nonzero(by_chance >= observed - 1e-12)) / (1 + len(by_chance)))


def correct_for_many(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979): any is under 0.05 by chance in at most 5 % of all comparisons."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    raised = np.minimum(np.maximum.accumulate(np.array(p_values)[order] * factors), 1)
    corrected = np.empty(len(p_values))
    corrected[order] = raised
    return [float(p) for p in corrected]


def _total_variation(draws: npt.NDArray[np.int64], totals: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.float64]:
    """Total variation between each drawn sample, (draws, classes), and the rest."""
    rest = int(totals.sum()) - size
    distances: npt.NDArray[np.float64] = np.abs(draws / size - (totals - draws) / rest).sum(axis=1) / 2
    return distances
