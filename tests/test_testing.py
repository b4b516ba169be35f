"""The tools for users' own tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cvbatch.errors import ModelError
from cvbatch.images.preprocess import View
from cvbatch.inference.python.protocol import Image, Size
from cvbatch.testing import check_model, generate_image, generate_images, seeded_checkpoint


def test_generated_images_are_the_same_each_time_and_differ_by_seed() -> None:
    first = np.asarray(generate_image(60, 40, seed=1))
    assert first.shape == (40, 60, 3)
    np.testing.assert_array_equal(first, np.asarray(generate_image(60, 40, seed=1)))
    assert np.abs(first.astype(int) - np.asarray(generate_image(60, 40, seed=2))).mean() > 10
    assert first.std() > 20


def test_generated_images_have_mixed_sizes() -> None:
    sizes = [image.size for image in generate_images()]
    assert 3 < len(set(sizes)) < len(sizes)


def test_seeded_checkpoints_are_deterministic(tmp_path: Path) -> None:
    states = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        entry = seeded_checkpoint("squeezenet1_1", tmp_path / folder, seed=5)
        states.append(torch.load(entry["checkpoint"], weights_only=True))
        assert entry["model"] == "squeezenet1_1"
        assert len(entry["categories"]) == 1000
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


class Good:
    task = "classification"
    view = View(resize=(4, 4))
    categories = ("dark", "bright")

    def predict(self, images: Sequence[Image], sizes: Sequence[Size]) -> Any:
        share = np.stack(images).mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - share, share], axis=1)


class DependsOnItsBatch(Good):
    def predict(self, images: Sequence[Image], sizes: Sequence[Size]) -> Any:
        return super().predict(images, sizes) / len(images)


class WrongShape(Good):
    categories = ("dark", "medium", "bright")


class NoTask(Good):
    task = "guessing"


def test_a_good_model_passes() -> None:
    check_model(Good)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (DependsOnItsBatch, AssertionError, "image 0 gives another answer when it shares a call"),
        (WrongShape, AssertionError, r"expected scores of shape \(4, 3\), got \(4, 2\)"),
        (NoTask, ModelError, "expected a task out of"),
    ],
)
def test_errors_name_the_fault_of_a_model(model: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_model(model)
