"""Views equal those of torchvision on PIL images, and boxes are mapped back to the original."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional
from torchvision.transforms.functional import InterpolationMode

from cvbatch.errors import ImageError
from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import (
    View,
    apply_view,
    boxes_to_original,
    can_resize_whole,
    check_resized_pixels,
    compute_min_decode_side,
    compute_output_size,
)

SIZES = [(1, 1), (7, 7), (40, 30), (30, 40), (64, 33), (33, 64), (50, 49), (200, 3), (48, 32), (31, 31)]
VIEWS = [
    View(),
    View(resize=32),
    View(resize=32, crop=(28, 28), interpolation="bicubic"),
    View(resize=33, crop=(28, 28)),
    View(resize=(20, 45), interpolation="nearest"),
    View(crop=(32, 32)),
    View(crop=(41, 20)),
    View(resize=15, crop=(22, 35)),
]


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def torchvision_view(view: View, image: Image.Image) -> np.ndarray[Any, Any]:
    if view.resize is not None:
        size = list(view.resize) if isinstance(view.resize, tuple) else [view.resize]
        image = functional.resize(image, size, InterpolationMode(view.interpolation))
    if view.crop is not None:
        image = functional.center_crop(image, list(view.crop))
    return np.asarray(image)


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_apply_equals_torchvision(view: View, size: tuple[int, int]) -> None:
    image = noise(*size)
    applied = apply_view(view, image)
    np.testing.assert_array_equal(applied, torchvision_view(view, image))
    assert applied.dtype == np.uint8
    assert applied.flags.c_contiguous
    assert applied.shape == (*reversed(compute_output_size(view, size)), 3)


def test_sizes_equal_torchvision_where_rounding_matters() -> None:
    view = View(resize=13, crop=(9, 11))
    for width, height in itertools.product(range(1, 27, 2), range(2, 27, 3)):
        image = noise(width, height)
        np.testing.assert_array_equal(apply_view(view, image), torchvision_view(view, image))


def test_an_image_of_the_right_size_is_not_resampled() -> None:
    image = noise(40, 32)
    np.testing.assert_array_equal(apply_view(View(resize=32), image), np.asarray(image))


@pytest.mark.parametrize(
    ("view", "size", "box", "expected"),
    [
        (View(), (100, 50), (1, 2, 3, 4), (1, 2, 3, 4)),
        (View(resize=25), (100, 50), (1, 2, 3, 4), (2, 4, 6, 8)),
        (View(resize=(100, 100)), (100, 50), (10, 10, 20, 20), (10, 5, 20, 10)),
        (View(resize=50, crop=(40, 40)), (100, 50), (0, 0, 40, 40), (30, 5, 70, 45)),
        (View(crop=(60, 60)), (40, 50), (0, 0, 60, 60), (0, 0, 40, 50)),
        (View(crop=(60, 60)), (40, 50), (15, 10, 20, 20), (5, 5, 10, 15)),
        (View(resize=25), (100, 50), (-5, -5, 70, 70), (0, 0, 100, 50)),
    ],
)
def test_boxes_are_mapped_to_the_original(
    view: View, size: tuple[int, int], box: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    back = boxes_to_original(view, size, np.array([box], dtype=np.float32))
    np.testing.assert_allclose(back, [expected], rtol=1e-6)
    assert back.dtype == np.float32


def test_an_empty_array_of_boxes() -> None:
    assert boxes_to_original(View(resize=9), (30, 20), np.zeros((0, 4), np.float32)).shape == (0, 4)


def test_min_decode_side_is_twice_the_longest_resized_side() -> None:
    assert compute_min_decode_side([View(resize=32), View(resize=(20, 45))]) == 90
    assert compute_min_decode_side([View(resize=32), View()]) is None
    assert compute_min_decode_side([]) is None


def test_a_scaled_image_gets_the_same_size() -> None:
    view = View(resize=32)
    whole, scaled = noise(401, 300), noise(101, 75)
    assert apply_view(view, scaled, whole.size).shape == apply_view(view, whole).shape == (32, 42, 3)


THIN = [
    (View(resize=32, crop=(28, 28), interpolation="bicubic"), (2, 9800)),
    (View(resize=33, crop=(28, 28)), (13_000, 3)),
    (View(resize=15, crop=(22, 35)), (1, 20_000)),
    (View(resize=40, crop=(7, 300), interpolation="bicubic"), (3, 8_200)),
    (View(resize=40, crop=(31, 12), interpolation="nearest"), (5400, 2)),
    (View(resize=520, crop=(480, 480), interpolation="bicubic"), (61, 1000)),
    (View(resize=520, crop=(480, 600)), (1000, 61)),
    (View(resize=300, crop=(28, 28)), (5_200, 100)),
    (View(resize=60, crop=(56, 56), interpolation="bicubic"), (100, 120_000)),
]
"""Views and image sizes for which resizing the whole image makes too many pixels."""


@pytest.mark.parametrize(("view", "size"), THIN, ids=str)
def test_only_the_cropped_region_of_a_thin_image_is_resized(view: View, size: tuple[int, int]) -> None:
    image = noise(*size)
    assert not can_resize_whole(view, size)
    cropped, expected = apply_view(view, image).astype(int), torchvision_view(view, image).astype(int)
    if view.interpolation == "nearest":  # a position rounded the other way gives the neighbouring pixel
        assert (cropped != expected).mean() < 0.4
    else:
        assert np.abs(cropped - expected).max() <= 1
    assert cropped.shape == expected.shape


def test_the_resized_size_of_a_thin_image_is_bounded() -> None:
    view = View(resize=520)
    check_resized_pixels(view, (7000, 480))
    check_resized_pixels(View(resize=(3000, 6000)), (60_000, 1))
    check_resized_pixels(View(resize=4096), (4000, 3000))
    check_resized_pixels(View(), (60_000, 1))
    for size in [(60_000, 1), (1, 60_000), (10_000, 10), (30_000, 2)]:
        check_resized_pixels(View(resize=256, crop=(224, 224)), size)
        with pytest.raises(ImageError, match="so thin that") as caught:
            check_resized_pixels(view, size)
        assert caught.value.kind == "TooManyPixels"


def test_a_side_that_follows_the_other_one_is_bounded() -> None:
    letterbox = Letterbox(size=(518, 518), stride=14, rounding="least_change")
    check_resized_pixels(View(letterbox=letterbox), (6000, 480))
    for size in [(60_000, 480), (480, 60_000)]:
        with pytest.raises(ImageError, match="resizes the shorter side to 518 would get"):
            check_resized_pixels(View(letterbox=letterbox), size)


def test_a_thin_image_takes_little_memory() -> None:
    # with the limit, too large an allocation is a MemoryError in the child process, not a full machine
    code = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from PIL import Image
from cvbatch.images.preprocess import View, apply_view
for size in [(60_000, 1), (1, 60_000), (10_000, 10), (2, 30_000), (1, 2_000_000), (2_000_000, 1)]:
    image = Image.new("RGB", size, (10, 20, 30))
    for view in (View(resize=256, crop=(224, 224)), View(resize=(320, 320)), View(resize=33, crop=(41, 41))):
        pixels = apply_view(view, image)
        height, width = view.crop or view.resize
        assert pixels.shape == (height, width, 3) and pixels[height // 2, width // 2].tolist() == [10, 20, 30]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
