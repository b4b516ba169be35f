"""Images of the truth are split by column, folder and size."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvbatch.errors import UsageError
from cvbatch.evaluation.slices import slice_images
from cvbatch.truth.align import align_truth
from tests.truth.test_align import make_run, truth


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("folder", {"/p/a": [1], "/p/b": [0], "/p/s.tar": []}),
        ("size", {"under 0.1 MP": [1], "0.1 to 0.5 MP": [], "0.5 to 2 MP": [], "32 MP and more": [0]}),
        ("format", {"(none)": [1], "png": [0]}),
    ],
)
def test_slices(tmp_path: Path, by: str, expected: dict[str, list[int]]) -> None:
    run = make_run(
        tmp_path,
        width=[10, 10, 500, 1000, 8000],
        height=[10, 10, 400, 500, 4000],
        format=["jpeg", None, "gif", "gif", "png"],
    )
    alignment = align_truth(run, truth("b/4.png", "a/2.jpg", "b/7.png"))
    slices = slice_images(run, alignment, by)
    assert {name: images.nonzero()[0].tolist() for name, images in slices.items()} == {
        name: images for name, images in expected.items() if images
    }
    assert list(slices) == [name for name in expected if name in slices]


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("camera", "there is no column 'camera'; there are"),
        ("classification_top_labels", "expected a column with one value for each image, got list"),
    ],
)
def test_a_wrong_column_is_one_line(tmp_path: Path, by: str, message: str) -> None:
    run = make_run(tmp_path)
    with pytest.raises(UsageError, match=message):
        slice_images(run, align_truth(run, truth("b/4.png")), by)
