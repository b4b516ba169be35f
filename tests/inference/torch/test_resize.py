"""The device's resizing against Pillow's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvbatch.images.preprocess import GPU_INTERPOLATIONS, View, apply_view
from cvbatch.inference.torch.resize import FILTERS, resize_to_view
from cvbatch.testing import generate_images

SIZES = [(500, 375), (375, 500), (90, 100), (256, 256), (37, 1200)]


def test_every_smooth_interpolation_is_there() -> None:
    assert set(FILTERS) == set(GPU_INTERPOLATIONS)


@pytest.mark.parametrize(
    "view",
    [
        View(resize=256, crop=(224, 224)),
        View(resize=(320, 300)),
        View(resize=232, crop=(224, 200), interpolation="bicubic"),
        View(resize=100, crop=(224, 224)),
        View(resize=200),
        View(),
    ],
    ids=str,
)
def test_pixels_are_those_of_pillow(view: View) -> None:
    images = generate_images(SIZES)
    found = resize_to_view([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images], view)
    for image, ours in zip(images, found, strict=True):
        theirs = apply_view(view, image)
        assert ours.dtype == torch.uint8
        assert tuple(ours.shape) == theirs.shape
        difference = np.abs(ours.numpy().astype(int) - theirs)
        assert difference.max() <= 2
        # where lengths are as 5 to 4, many values are exact halves, and those may go either way
        assert difference.mean() < (0.25 if view.resize == (320, 300) else 0.02)
