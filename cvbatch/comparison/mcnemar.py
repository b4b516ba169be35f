"""McNemar's test: whether two classifiers err equally often on the same images (Psychometrika 12, 1947)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

_MOST_EXACT: Final = 1000
"""Images that only one of both has right, up to which the exact binomial test is used."""


@dataclass(frozen=True, slots=True)
class McNemarTest:
    """Result of the test."""

    only_first: int
    """Images that only the first run has right."""
    only_second: int
    p_value: float
    """Two-sided."""
    is_exact: bool
    """Whether by the binomial distribution; else by chi-square with the correction of Edwards (1948)."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "only_first_right": self.only_first,
            "only_second_right": self.only_second,
            "p_value": self.p_value,
            "test": "exact binomial" if self.is_exact else "chi-square, corrected for continuity",
        }


def mcnemar_test(only_first: int, only_second: int) -> McNemarTest:
    """Test whether errors are equally likely.

    Args:
        only_first: Images that only the first run has right.
        only_second: Images that only the second run has right.
    """
    differing = only_first + only_second
    if differing > _MOST_EXACT:
        statistic = max(0, abs(only_first - only_second) - 1) ** 2 / differing
        return McNemarTest(only_first, only_second, math.erfc(math.sqrt(statistic / 2)), is_exact=False)
    tail = sum(math.comb(differing, count) for count in range(min(only_first, only_second) + 1))
    return McNemarTest(only_first, only_second, min(1.0, 2 * tail / 2**differing), is_exact=True)
