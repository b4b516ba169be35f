"""Label maps in bands equal those made at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from cvbatch.inference.torch.segmenter import resize_to_label_map


def logits(classes: int, height: int, width: int) -> torch.Tensor:
    coarse = torch.randn(1, classes, 5, 7, generator=torch.Generator().manual_seed(0)) * 4
    smooth = functional.interpolate(coarse, size=(height, width), mode="bicubic")[0]
    return smooth + torch.arange(classes)[:, None, None] % 3


@pytest.mark.parametrize("size", [(61, 43), (43, 61), (400, 300), (130, 97), (1, 1)])
@pytest.mark.parametrize("classes", [2, 21, 300])
def test_bands_give_what_the_whole_gives(size: tuple[int, int], classes: int) -> None:
    scores = logits(classes, 65, 87)
    width, height = size
    whole = functional.interpolate(scores[None], size=(height, width), mode="bilinear", align_corners=False)[0]
    margin = np.diff(whole.topk(2, dim=0).values.flip(0).numpy(), axis=0)[0]
    labels = resize_to_label_map(scores, size)
    assert labels.shape == (height, width)
    assert labels.flags.f_contiguous
    clear = margin > 1e-4
    np.testing.assert_array_equal(labels[clear], whole.argmax(dim=0).numpy()[clear])
    for band_pixels in (1, 1000, 10**9):
        np.testing.assert_array_equal(resize_to_label_map(scores, size, band_pixels=band_pixels), labels)


def test_the_first_of_equal_classes_wins() -> None:
    assert not resize_to_label_map(torch.zeros(3, 4, 4), (9, 9)).any()
