"""Label maps to columns."""

from __future__ import annotations

import numpy as np
import pytest

from cvbatch.images.preprocess import View
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.masks import decode_mask
from cvbatch.tasks.segmentation import SEGMENTATION, emitted_label_ids, summarize_label_map

SPEC = ModelSpec(
    alias="a", task="segmentation", kind="python", name="", view=View(), categories=(None, "b", "c", None, "e")
)
LABELS = np.array([[0, 1, 1, 4], [0, 0, 1, 3]])


@pytest.mark.parametrize("order", ["C", "F"])
def test_present_classes_with_their_areas_and_masks(order: str) -> None:
    labels = np.asarray(LABELS, np.uint8, order)  # type: ignore[call-overload]
    found = summarize_label_map(labels, emitted_label_ids(SPEC))
    assert found.label_ids.tolist() == [1, 4]
    assert found.areas.tolist() == [3 / 8, 1 / 8]
    for label, counts in zip(found.label_ids, found.masks, strict=True):
        np.testing.assert_array_equal(decode_mask(counts, 2, 4), label == LABELS)


def test_columns() -> None:
    found = [
        summarize_label_map(labels, emitted_label_ids(SPEC))
        for labels in (LABELS, np.zeros((3, 3), int), LABELS[:, :3])
    ]
    arrays = SEGMENTATION.to_columns(SPEC, found)
    assert {name: array.type for name, array in arrays.items()} == SEGMENTATION.column_types(SPEC)
    columns = {name: array.to_pylist() for name, array in arrays.items()}
    assert columns["labels"] == [["b", "e"], [], ["b"]]
    assert columns["label_ids"] == [[1, 4], [], [1]]
    assert columns["areas"] == [[3 / 8, 1 / 8], [], [0.5]]
    assert [len(each) for each in columns["masks"]] == [2, 0, 1]
