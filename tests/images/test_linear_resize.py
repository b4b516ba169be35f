"""Bilinear interpolation without antialiasing, against OpenCV and torch."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from cvbatch.images.linear_resize import resize_linear
from cvbatch.images.preprocess import View, apply_view, can_resize_on_gpu

SIZES = [((60, 40), (31, 17)), ((60, 40), (90, 80)), ((60, 40), (90, 20)), ((1, 40), (5, 7)), ((60, 1), (30, 1))]


@pytest.mark.parametrize(("size", "target"), [*SIZES, ((640, 480), (416, 312)), ((3, 3), (1, 1))])
def test_pixels_are_those_of_opencv_and_torch(size: tuple[int, int], target: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    resized = np.asarray(resize_linear(Image.fromarray(pixels), target)).astype(float)
    assert resized.shape == (target[1], target[0], 3)
    assert np.abs(resized - cv2.resize(pixels, target, interpolation=cv2.INTER_LINEAR)).max() <= 1
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(batch, (target[1], target[0]), mode="bilinear", align_corners=False)
    assert np.abs(resized - expected[0].permute(1, 2, 0).numpy()).max() < 1.01


def test_a_view_may_ask_for_it() -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    view = View(resize=(17, 31), interpolation="linear")
    np.testing.assert_array_equal(apply_view(view, photo), np.asarray(resize_linear(photo, (31, 17))))
    assert np.abs(apply_view(view, photo).astype(int) - apply_view(View(resize=(17, 31)), photo)).max() > 20
    assert not can_resize_on_gpu(view)
