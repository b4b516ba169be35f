"""Categories are matched by name, whatever their numbers and spelling."""

from __future__ import annotations

import pytest

from cvbatch.truth.categories import match_categories


@pytest.mark.parametrize(
    ("truth", "model", "labels"),
    [
        (["a", "b"], [None, "b", "c", "a"], [-1, 1, -1, 0]),
        (["traffic light"], ["Traffic_Light", "traffic-light"], [0, 0]),
        (["Cardigan", "cardigan"], ["cardigan", "Cardigan", "CARDIGAN"], [1, 0, 0]),
        (["crane", "x", "crane"], ["crane", "crane"], [0, 2]),
        (["crane"], ["crane", "crane"], [0, 0]),
    ],
)
def test_names(truth: list[str], model: list[str | None], labels: list[int]) -> None:
    matched = match_categories(truth, [1] * len(truth), model, "t", "m")
    assert matched.truth_labels.tolist() == labels
    assert matched.is_known == tuple(index in labels for index in range(len(truth)))


def test_only_unknown_classes_that_occur_are_mentioned() -> None:
    notes = match_categories(["a", "b", "c", "d"], [1, 3, 0, 5], ["a"], "t", "m").notes
    assert notes == (
        "classes of the truth that m does not know: 2; they take no part, with their 8 labels: d (5), b (3)",
    )
