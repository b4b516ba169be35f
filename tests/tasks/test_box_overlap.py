"""Which boxes are the same."""

from __future__ import annotations

import numpy as np
import pytest

from cvbatch.tasks.box_overlap import LabelledBoxes, count_matches


def boxes(*found: tuple[list[float], int]) -> LabelledBoxes:
    return np.array([box for box, _ in found]).reshape(-1, 4), np.array([label for _, label in found], np.int64)


ONE = ([0.0, 0.0, 10.0, 10.0], 1)
NEAR = ([0.0, 0.0, 10.0, 9.0], 1)
OTHER_LABEL = ([0.0, 0.0, 10.0, 10.0], 2)


@pytest.mark.parametrize(
    ("one", "other", "matches"),
    [
        ([ONE], [ONE], 1),
        ([ONE], [NEAR], 1),
        ([ONE], [OTHER_LABEL], 0),
        ([ONE, ONE], [ONE], 1),
        ([ONE, NEAR], [NEAR, ONE], 2),
        ([], [ONE], 0),
        ([ONE], [], 0),
    ],
)
def test_each_box_is_matched_once(
    one: list[tuple[list[float], int]], other: list[tuple[list[float], int]], matches: int
) -> None:
    assert count_matches(boxes(*one), boxes(*other), 0.9) == matches
    assert count_matches(boxes(*other), boxes(*one), 0.9) == matches


def test_too_little_overlap_is_none() -> None:
    assert count_matches(boxes(ONE), boxes(NEAR), 0.91) == 0
