"""Whether the second run is better than the first, from the interval of a difference and a margin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cvbatch.evaluation.bootstrap import Estimate, plain_number

MARGIN: Final = 0.01
"""Loss that does not matter, by default: one point of a hundred."""
BETTER: Final = "better"
NOT_WORSE: Final = "not worse"
WORSE: Final = "worse"
NOT_KNOWN: Final = "not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDifference:
    """One metric of both runs on the same images."""

    first: float
    second: float
    difference: Estimate
    """Second minus first, with its interval."""
    lower_is_better: bool = False

    def verdict(self, margin: float) -> str:
        """What the interval says about the second run.

        Better: all of the interval is a gain. Not worse: no loss larger than the margin is in it (a test of
        non-inferiority). Worse: all of it is a loss. Else not known, which more images may change.

        Args:
            margin: Loss that does not matter.
        """
        low, high = self.difference.low, self.difference.high
        if self.lower_is_better:
            low, high = -high, -low
        if np.isnan(low) or np.isnan(high):
            return NOT_KNOWN
        if low > 0:
            return BETTER
        if low >= -margin:
            return NOT_WORSE
        return WORSE if high < 0 else NOT_KNOWN

    def to_json(self, margin: float) -> dict[str, Any]:
        """Plain data with the verdict."""
        return {
            "first": plain_number(self.first),
            "second": plain_number(self.second),
            "difference": plain_number(self.difference.value),
            "interval": [plain_number(self.difference.low), plain_number(self.difference.high)],
            "verdict": self.verdict(margin),
        }


Differences = Mapping[str, MetricDifference]
"""By name of the metric, the main one first."""
