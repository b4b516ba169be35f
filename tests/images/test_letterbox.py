"""Images in a frame: where they lie, what is around them, and that boxes come back."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cvbatch.images.letterbox import Letterbox, place_in_frame
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
    assert place_in_frame(Letterbox(size=FRAME), size) == (resized, (0, 0))
    assert place_in_frame(Letterbox(size=FRAME, centred=True), size) == (resized, offset)


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


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("size", [(500, 375), (37, 512), (1, 900), (13, 13)])
def test_boxes_of_the_frame_come_back_to_the_original(centred: bool, size: tuple[int, int]) -> None:
    letterbox = Letterbox(size=(416, 416), centred=centred)
    resized, offset = place_in_frame(letterbox, size)
    corners = np.array([[*offset, offset[0] + resized[0], offset[1] + resized[1]], [-50, -50, 900, 900]], np.float32)
    boxes = boxes_to_original(View(letterbox=letterbox), size, corners)
    np.testing.assert_allclose(boxes, [[0, 0, *size], [0, 0, *size]], atol=1e-3)


def test_a_view_has_a_frame_or_a_size() -> None:
    with pytest.raises(ValueError, match="leave out resize and crop"):
        View(resize=32, letterbox=Letterbox(size=FRAME))


def test_a_gpu_fills_with_black_only() -> None:
    assert can_resize_on_gpu(View(letterbox=Letterbox(size=FRAME)))
    assert not can_resize_on_gpu(View(letterbox=Letterbox(size=FRAME, fill=(1, 0, 0))))
    assert not can_resize_on_gpu(View(resize=32, interpolation="nearest"))


def test_decoding_may_scale_to_twice_the_frame() -> None:
    assert compute_min_decode_side([View(letterbox=Letterbox(size=FRAME)), View(resize=20)]) == 192
