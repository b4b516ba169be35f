"""The list has the images of highest priority, however they come."""

from __future__ import annotations

import numpy as np

from cvbatch.comparison.review import ReviewList


def test_the_highest_priorities_remain() -> None:
    priorities = np.random.default_rng(0).permutation(100).astype(float)
    priorities[priorities == 99] = np.nan
    review = ReviewList(5)
    for part in np.array_split(priorities, 9):
        review.add_images(part, lambda row, part=part: {"priority": part[row]})
    assert [row["priority"] for row in review.rows()] == [98, 97, 96, 95, 94]
