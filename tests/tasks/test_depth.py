"""Depth as columns, from built-in networks and `python:` models, and how settings are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cvbatch import decode_depth
from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import View
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import DEPTH
from cvbatch.tasks.depth_maps import encode_depths

RAMP = np.arange(12, dtype=np.float32).reshape(3, 4)


def spec_of(view: View | None = None) -> ModelSpec:
    return ModelSpec(alias="a", task="depth", kind="python", name="a", view=view or View(resize=(6, 8)))


def columns_of(*maps: Any) -> Any:
    return DEPTH.to_columns(spec_of(), [encode_depths(depths) for depths in maps])


def test_columns() -> None:
    columns = columns_of(RAMP, -RAMP)
    assert {name: array.type for name, array in columns.items()} == DEPTH.column_types(spec_of())
    assert (columns["min"].to_pylist(), columns["max"].to_pylist()) == ([0, -11], [11, 0])
    np.testing.assert_allclose(decode_depth(columns["map"][1].as_py(), -11, 0), -RAMP, atol=1e-3)


def test_answers_of_own_models() -> None:
    sizes = [(40, 30)] * 3
    whole, empty, broken = DEPTH.parse_answers(
        spec_of(), [RAMP.tolist(), np.zeros((0, 4)), np.full((2, 2), np.inf)], sizes, logits=False
    )
    np.testing.assert_allclose(decode_depth(*whole), RAMP, atol=1e-3)
    assert "a: expected depths of pixels, got an array of shape (0, 4)" in empty.message
    assert "a: expected finite depths, got inf" in broken.message


def test_the_frame_around_an_image_has_no_depth() -> None:
    view = View(letterbox=Letterbox(size=(8, 8), centred=True))
    frame = np.full((8, 8), 99.0)
    frame[2:6] = 1.0  # an image of 40 × 20
    (stored,) = DEPTH.parse_answers(spec_of(view), [frame], [(40, 20)], logits=False)
    np.testing.assert_array_equal(decode_depth(*stored), np.ones((4, 8)))
    (wrong,) = DEPTH.parse_answers(spec_of(view), [np.ones((4, 4))], [(40, 20)], logits=False)
    assert "expected depths of shape (8, 8), got (4, 4)" in wrong.message


@pytest.mark.parametrize(("change", "same"), [(0.0, True), (0.01, True), (0.05, False)])
def test_settings_are_compared_by_the_mean_difference(change: float, same: bool) -> None:
    agreement, accepted = DEPTH.compare_columns(columns_of(RAMP), columns_of(RAMP + change * 11), [(40, 30)])
    assert agreement["largest_mean_difference"] == pytest.approx(change, abs=1e-3)
    assert accepted is same
    assert not DEPTH.compare_columns(columns_of(RAMP), columns_of(RAMP[:2]), [(40, 30)])[1]
