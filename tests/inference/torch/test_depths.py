"""Depths are those of transformers' own pipeline, on the same images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import pipeline

from cvbatch import decode_depth
from cvbatch.config.job import ModelConfig
from cvbatch.images.preprocess import View
from cvbatch.inference.loading import probe_model
from cvbatch.inference.torch.depths import DepthNetwork
from cvbatch.inference.torch.tensors import BatchNormalizer
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import generate_images, predict
from tests.rigs.transformers_models import own_processor, save_depth_anything, save_dpt

IMAGES = generate_images(((200, 150), (150, 200), (201, 99), (64, 64)))


@pytest.mark.parametrize("save", [save_dpt, save_depth_anything])
def test_depths_are_those_of_the_pipeline(save: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = save(tmp_path / "tiny")
    (spec,) = resolve_models([ModelConfig.model_validate({"model": f"hf:{folder}"})])
    spec = probe_model(spec)
    assert (spec.task, spec.categories) == ("depth", ())
    columns = predict([spec], IMAGES, batch_size=2)
    run = pipeline("depth-estimation", model=str(folder), image_processor=own_processor(folder))
    for row, image in enumerate(IMAGES):
        expected = run(image)["predicted_depth"].numpy()
        stored = [columns[f"depth_{name}"][row] for name in ("map", "min", "max")]
        depths = decode_depth(*stored, width=image.width, height=image.height)
        assert depths.shape == expected.shape
        np.testing.assert_allclose(depths, expected, atol=3e-3 * np.ptp(expected))
        assert np.ptp(expected) > 0


def test_numbers_that_are_none_are_errors_of_their_image() -> None:
    class Broken(torch.nn.Module):
        def forward(self, batch: Any) -> Any:
            return (batch.mean(dim=1) - 0.5).log()

    network = DepthNetwork(Broken(), BatchNormalizer((0, 0, 0), (1, 1, 1), "cpu"))
    dark, bright = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    spec = ModelSpec(alias="a", task="depth", kind="transformers", name="a", view=View())
    broken, whole = network.run_batch([dark, bright], [(8, 8), (8, 8)], [spec])["a"]
    assert (broken.type, broken.message) == ("InvalidOutput", "a: expected finite depths, got nan")
    assert decode_depth(*whole).shape == (8, 8)
