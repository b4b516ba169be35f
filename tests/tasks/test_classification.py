"""Class scores to columns."""

from __future__ import annotations

import numpy as np
import pytest

from cvbatch.images.preprocess import View
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.classification import CLASSIFICATION, best_of

SCORES = np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.4, 0.1, 0.1]], np.float32)


def columns(top_k: int, *categories: str | None) -> list[list[object]]:
    spec = ModelSpec(
        alias="a", task="classification", kind="python", name="", view=View(), categories=categories, top_k=top_k
    )
    arrays = CLASSIFICATION.to_columns(spec, list(SCORES))
    assert {name: array.type for name, array in arrays.items()} == CLASSIFICATION.column_types(spec)
    return [array.to_pylist() for array in arrays.values()]


def test_best_first_and_the_lower_id_of_equals() -> None:
    label, label_id, score, top_labels, top_ids, top_scores = columns(3, "a", "b", "c", "d")
    assert (label, label_id) == (["d", "a"], [3, 0])
    assert score == pytest.approx([0.4, 0.4])
    assert top_labels == [["d", "c", "b"], ["a", "b", "c"]]
    assert top_ids == [[3, 2, 1], [0, 1, 2]]
    assert top_scores[0] == pytest.approx([0.4, 0.3, 0.2])


def test_what_has_no_name_is_never_emitted() -> None:
    label, _, _, top_labels, top_ids, _ = columns(4, None, "b", "c", None)
    assert label == ["c", "b"]
    assert top_labels == [["c", "b"], ["b", "c"]]
    assert top_ids == [[2, 1], [1, 2]]


@pytest.mark.parametrize("count", [1, 5, 40, 100])
def test_the_best_are_those_of_a_stable_sort(count: int) -> None:
    scores = np.random.default_rng(0).random((50, 40)).astype(np.float32)
    scores[3] = 0.5
    scores[4, 10:] = 0
    scores[5, :7] = 2
    scores[6, 11] = np.nan
    scores[7] = np.nan
    wanted = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(best_of(scores, count), wanted)
