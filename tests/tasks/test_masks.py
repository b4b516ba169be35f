"""Run-length encoding, against masks with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import Size, View, compute_crop_geometry
from cvbatch.tasks.masks import decode_mask, encode_mask, scaled_nearest


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (37, 1), (40, 30), (300, 500)])
def test_decoding_gives_the_mask_back(share: float, size: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(size) < share
    decoded = decode_mask(encode_mask(mask), *size)
    assert decoded.dtype == np.bool_
    np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_blobs_in_either_order(order: str) -> None:
    rows, columns = np.ogrid[:1200, :1600]
    mask = np.asarray((rows - 500) ** 2 + (columns - 700) ** 2 < 300**2, order=order)  # type: ignore[call-overload]
    np.testing.assert_array_equal(decode_mask(encode_mask(mask), 1200, 1600), mask)


def test_counts_are_those_of_coco() -> None:
    mask = np.zeros((3, 4), np.bool_)
    mask[1:, 1:3] = True
    assert encode_mask(mask) == b"42102"  # runs 4 2 1 2 3, from the fourth on less the last but one


def test_a_wrong_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected a mask of 3 × 3 pixels, got one of 4"):
        decode_mask(encode_mask(np.ones((2, 2), np.bool_)), 3, 3)


VIEWS = [
    View(resize=96),
    View(resize=(96, 64)),
    View(letterbox=Letterbox(size=(96, 96))),
    View(letterbox=Letterbox(size=(96, 128), centred=True)),
    View(letterbox=Letterbox(size=(96, 96), centred=True, stride=32)),
    View(letterbox=Letterbox(size=(96, 96), centred=True, enlarge=False)),
    View(letterbox=Letterbox(shorter=90, longer=640, stride=32, rounding="down")),
    View(letterbox=Letterbox(shorter=90, longer=640, rounding="shorter_first")),
]


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("size", [(30, 20), (20, 31), (1, 1), (1, 60), (60, 1), (60, 60)])
def test_labels_that_a_view_enlarges_come_back_exactly(view: View, size: Size) -> None:
    labels = np.random.default_rng(0).integers(1, 100, size[::-1])
    geometry = compute_crop_geometry(view, size)
    (left, top), (width, height) = np.negative(geometry.offset), geometry.resized_size
    framed = np.zeros(geometry.size[::-1], int)
    framed[top : top + height, left : left + width] = scaled_nearest(labels, (width, height))
    np.testing.assert_array_equal(scaled_nearest(framed, size, view), labels)


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_labels_of_a_quarter_of_the_frame_come_from_the_image_alone(view: View) -> None:
    """Networks give masks in a fraction of the frame's pixels; those of the frame's edge stay out."""
    size = (300, 100)
    geometry = compute_crop_geometry(view, size)
    (left, top), (width, height) = np.negative(geometry.offset), geometry.resized_size
    framed = np.zeros(geometry.size[::-1], int)
    framed[top : top + height, left : left + width] = np.arange(width) * 3 // width + 1
    back = scaled_nearest(framed[2::4, 2::4], size, view)
    assert back.shape == (100, 300)
    shares = [(back == label).mean() for label in (1, 2, 3)]
    assert min(shares) > 0.25
    assert (back == 0).mean() < 0.15
