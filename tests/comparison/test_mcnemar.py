"""McNemar's test equals that of SciPy's distributions."""

from __future__ import annotations

import pytest
from scipy import stats

from cvbatch.comparison.mcnemar import mcnemar_test


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (3, 0), (0, 6), (10, 4), (250, 301), (500, 500)])
def test_few_images_are_tested_exactly(only_first: int, only_second: int) -> None:
    result = mcnemar_test(only_first, only_second)
    differing = only_first + only_second
    expected = stats.binomtest(only_first, differing, 0.5).pvalue if differing else 1.0
    assert result.is_exact
    assert result.p_value == pytest.approx(expected)


def test_many_images_are_tested_by_chi_square() -> None:
    result = mcnemar_test(900, 1030)
    assert not result.is_exact
    assert result.p_value == pytest.approx(stats.chi2.sf((130 - 1) ** 2 / 1930, 1))
    assert result.to_json()["test"] == "chi-square, corrected for continuity"
