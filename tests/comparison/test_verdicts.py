"""The verdict follows from the interval and the margin."""

from __future__ import annotations

import math

import pytest

from cvbatch.comparison.verdicts import BETTER, NOT_KNOWN, NOT_WORSE, WORSE, MetricDifference
from cvbatch.evaluation.bootstrap import Estimate


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.001, 0.02, BETTER),
        (-0.009, 0.02, NOT_WORSE),
        (-0.009, -0.001, NOT_WORSE),
        (-0.05, -0.001, WORSE),
        (-0.05, 0.02, NOT_KNOWN),
        (math.nan, math.nan, NOT_KNOWN),
    ],
)
def test_verdicts(low: float, high: float, verdict: str) -> None:
    middle = (low + high) / 2
    gain = MetricDifference(first=0.5, second=0.5 + middle, difference=Estimate(middle, low, high))
    assert gain.verdict(0.01) == verdict
    loss = MetricDifference(
        first=0.5, second=0.5 - middle, difference=Estimate(-middle, -high, -low), lower_is_better=True
    )
    assert loss.verdict(0.01) == verdict
