"""Effects and p equal those of SciPy; tests hold their level."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cvbatch.drift.statistics import compare_counts, compare_values, correct_for_many


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5])
def test_values_are_compared_as_by_scipy(shift: float) -> None:
    random = np.random.default_rng(4)
    reference, values = random.normal(size=400), random.normal(shift, size=300)
    expected = stats.ks_2samp(reference, values, method="asymp")
    effect, p = compare_values(reference, values)
    assert effect == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, abs=0.02)
    assert compare_values(reference, reference) == (0, 1)
    assert compare_values(np.zeros(30), np.ones(30)).effect == 1


def test_counts_of_classes() -> None:
    same = np.array([300, 200, 100, 0])
    assert compare_counts(same, same // 2, 0).effect == 0
    effect, p = compare_counts(same, np.array([100, 200, 300, 10]), 0)
    assert effect == pytest.approx(np.abs(same / 600 - np.array([100, 200, 300, 10]) / 610).sum() / 2, abs=0.05)
    assert p == 1 / 500
    random = np.random.default_rng(0)
    small = [
        compare_counts(*(random.multinomial(200, np.full(50, 0.02)) for _ in range(2)), seed) for seed in range(100)
    ]
    assert np.mean([shift.p < 0.05 for shift in small]) <= 0.1
    assert np.mean([shift.effect for shift in small]) < 0.02


def test_holms_correction() -> None:
    assert correct_for_many([0.03, 0.001, 0.02]) == pytest.approx([0.04, 0.003, 0.04])
    assert correct_for_many([0.9, 0.8]) == [1, 1]
    assert correct_for_many([]) == []
