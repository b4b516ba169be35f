"""Images in a frame: where they lie, what is around them, and that boxes come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from cvbatch.images.letterbox import Letterbox, Placement, largest_frame, longest_shorter_side, place_in_frame
from cvbatch.images.preprocess import View, apply_view, boxes_to_original, can_resize_on_gpu, compute_min_decode_side

FRAME = (64, 96)


@pytest.mark.parametrize(
    ("size", "resized", "offset"),
    [
        ((96, 64), (96, 64), (0, 0)),
        ((192, 64), (96, 32), (0, 16)),
        ((64, 192), (21, 64), (37, 0)),
        ((1, 1), (64, 64), (16, 0)),
        ((1, 5000), (1, 64), (47, 0)),
        ((5000, 1), (96, 1), (0, 31)),
        ((3, 2), (96, 64), (0, 0)),
    ],
)
def test_an_image_fills_its_frame_as_far_as_its_proportions_allow(
    size: tuple[int, int], resized: tuple[int, int], offset: tuple[int, int]
) -> None:
    assert place_in_frame(Letterbox(size=FRAME), size) == Placement(resized, (0, 0), FRAME[::-1])
    assert place_in_frame(Letterbox(size=FRAME, centred=True), size) == Placement(resized, offset, FRAME[::-1])


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("fill", [(0, 0, 0), (114, 115, 116)])
def test_the_rest_of_the_frame_has_the_fill_colour(centred: bool, fill: tuple[int, int, int]) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 30, 3), np.uint8))
    view = View(letterbox=Letterbox(size=FRAME, centred=centred, fill=fill))
    pixels = apply_view(view, photo)
    assert pixels.shape == (*FRAME, 3)
    (width, height), (left, top) = (38, 64), (29 if centred else 0, 0)
    inside = np.zeros(FRAME, bool)
    inside[top : top + height, left : left + width] = True
    np.testing.assert_array_equal(
        pixels[inside].reshape(height, width, 3), np.asarray(photo.resize((width, height), Image.Resampling.BILINEAR))
    )
    assert (pixels[~inside] == fill).all()


LETTERBOXES = [
    Letterbox(size=(416, 416)),
    Letterbox(size=(416, 416), centred=True),
    Letterbox(size=(416, 640), centred=True, stride=32),
    Letterbox(size=(416, 416), centred=True, enlarge=False),
    Letterbox(shorter=320, longer=640, stride=32, rounding="down"),
    Letterbox(shorter=320, longer=640, rounding="shorter_first"),
]


@pytest.mark.parametrize("letterbox", LETTERBOXES, ids=str)
@pytest.mark.parametrize("size", [(500, 375), (37, 512), (1, 900), (900, 1), (1, 1), (13, 13)])
def test_boxes_of_the_frame_come_back_to_the_original(letterbox: Letterbox, size: tuple[int, int]) -> None:
    placed = place_in_frame(letterbox, size)
    (left, top), (width, height) = placed.offset, placed.resized
    corners = np.array([[left, top, left + width, top + height], [-50, -50, 900, 900]], np.float32)
    boxes = boxes_to_original(View(letterbox=letterbox), size, corners)
    np.testing.assert_allclose(boxes, [[0, 0, *size], [0, 0, *size]], atol=1e-3)


def test_a_view_has_a_frame_or_a_size() -> None:
    with pytest.raises(ValueError, match="leave out resize and crop"):
        View(resize=32, letterbox=Letterbox(size=FRAME))


@pytest.mark.parametrize(
    ("size", "enlarge", "stride", "placed"),
    [
        ((640, 480), True, 32, Placement((64, 48), (0, 8), (64, 64))),
        ((480, 640), True, 32, Placement((48, 64), (8, 0), (64, 64))),
        ((640, 300), True, 32, Placement((64, 30), (0, 1), (64, 32))),
        ((640, 1), True, 32, Placement((64, 1), (0, 15), (64, 32))),
        ((20, 10), False, 32, Placement((20, 10), (6, 11), (32, 32))),
        ((20, 10), False, None, Placement((20, 10), (22, 27), (64, 64))),
        ((20, 10), False, 1, Placement((20, 10), (0, 0), (20, 10))),
    ],
)
def test_a_frame_with_a_stride_is_as_large_as_its_image_needs(
    size: tuple[int, int], enlarge: bool, stride: int | None, placed: Placement
) -> None:
    assert place_in_frame(Letterbox(size=(64, 64), centred=True, enlarge=enlarge, stride=stride), size) == placed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either size, or shorter and longer"),
        ({"shorter": 800}, "either size, or shorter and longer"),
        ({"size": FRAME, "shorter": 800, "longer": 1333}, "either size, or shorter and longer"),
        ({"size": (0, 5)}, "at least 1 pixel"),
        ({"size": FRAME, "stride": 0}, "at least 1 pixel"),
        ({"shorter": 800, "longer": -1}, "at least 1 pixel"),
        ({"size": (64, 90), "stride": 32}, "multiples of the stride 32"),
        ({"size": FRAME, "rounding": "shorter_first"}, "belongs to shorter and longer"),
    ],
)
def test_a_frame_that_contradicts_itself(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Letterbox(**options)


@pytest.mark.parametrize("letterbox", LETTERBOXES, ids=str)
def test_the_largest_frame_is_the_largest(letterbox: Letterbox) -> None:
    frames = [place_in_frame(letterbox, (width, 60)).frame for width in range(60, 400)]
    width, height = largest_frame(letterbox)
    assert max(frame[0] for frame in frames) == width
    assert max(frame[1] for frame in frames) == height
    shorter = [min(place_in_frame(letterbox, (1000, height)).resized) for height in range(1, 2000)]
    assert max(shorter) == longest_shorter_side(letterbox)


def test_a_gpu_fills_with_black_only() -> None:
    assert can_resize_on_gpu(View(letterbox=Letterbox(size=FRAME)))
    assert not can_resize_on_gpu(View(letterbox=Letterbox(size=FRAME, fill=(1, 0, 0))))
    assert not can_resize_on_gpu(View(resize=32, interpolation="nearest"))


def test_decoding_may_scale_to_twice_the_frame() -> None:
    assert compute_min_decode_side([View(letterbox=Letterbox(size=FRAME)), View(resize=20)]) == 128
