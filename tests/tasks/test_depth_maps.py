"""Maps of depth come back from their PNG, and grow as torch makes them grow."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from cvbatch.tasks.depth_maps import decode_depth, encode_depths

DEPTHS = (np.random.default_rng(0).normal(3, 2, (13, 17)) ** 2).astype(np.float32)


def test_values_come_back() -> None:
    stored = encode_depths(DEPTHS)
    with Image.open(io.BytesIO(stored.png)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "I;16", (17, 13))
    back = decode_depth(*stored)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, DEPTHS, atol=np.ptp(DEPTHS) / 65535)
    assert (back.min(), back.max()) == (DEPTHS.min(), DEPTHS.max())


def test_a_plain_map_has_one_value() -> None:
    np.testing.assert_array_equal(decode_depth(*encode_depths(np.full((2, 3), 7.5))), np.full((2, 3), 7.5))


@pytest.mark.parametrize(("width", "height"), [(50, 40), (17, 13), (200, 9), (1, 1)])
def test_other_sizes_are_interpolated_as_torch_does(width: int, height: int) -> None:
    stored = encode_depths(DEPTHS)
    values = torch.tensor(decode_depth(*stored))[None, None]
    expected = torch.nn.functional.interpolate(values, size=(height, width), mode="bicubic", align_corners=False)
    np.testing.assert_allclose(decode_depth(*stored, width=width, height=height), expected[0, 0].numpy(), atol=1e-4)


def test_what_is_no_map_is_refused() -> None:
    stored = encode_depths(DEPTHS)
    with pytest.raises(ValueError, match="expected width and height, got 5 and None"):
        decode_depth(*stored, width=5)
    with io.BytesIO() as file:
        Image.new("RGB", (2, 2)).save(file, "PNG")
        with pytest.raises(ValueError, match="expected a grey PNG of 16 bits"):
            decode_depth(file.getvalue(), 0, 1)
