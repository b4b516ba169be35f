"""Sizes, places and pixels of frames are those of the implementations that detectors come from."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from cvbatch.images.letterbox import Letterbox, place_in_frame
from cvbatch.images.preprocess import Size, View, apply_view, boxes_to_original, compute_output_size

SIZES = [
    *((640, 480), (480, 640), (500, 375), (333, 500), (427, 640), (1333, 800), (800, 1333), (2000, 1500)),
    *((640, 640), (641, 640), (97, 31), (31, 97), (7, 7), (1, 1), (2, 1), (1, 3)),  # small ones
    *((5000, 40), (40, 5000), (5000, 1), (1, 5000), (1999, 3), (3, 1999)),  # thin ones
    *((1280, 721), (719, 1280), (1023, 1025), (853, 480), (854, 480), (1067, 800), (1066, 799)),  # sides that round
]


def photo(size: Size) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))


def ultralytics_letterbox(
    image: np.ndarray, new_shape: tuple[int, int], *, auto: bool, scaleup: bool, center: bool, stride: int
) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
    """`LetterBox` of Ultralytics, written down: the frame, and (left, top) and (width, height) of the image in it."""
    shape = image.shape[:2]
    r = min(new_shape[0] / shape[0], new_shape[1] / shape[1])
    if not scaleup:
        r = min(r, 1.0)
    new_unpad = round(shape[1] * r), round(shape[0] * r)
    dw, dh = float(new_shape[1] - new_unpad[0]), float(new_shape[0] - new_unpad[1])
    if auto:
        dw, dh = dw % stride, dh % stride
    if center:
        dw /= 2
        dh /= 2
    if shape[::-1] != new_unpad:
        image = cv2.resize(image, new_unpad, interpolation=cv2.INTER_LINEAR)
    top, bottom = round(dh - 0.1) if center else 0, round(dh + 0.1)
    left, right = round(dw - 0.1) if center else 0, round(dw + 0.1)
    frame = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    return frame, (left, top), new_unpad


@pytest.mark.parametrize("auto", [False, True], ids=["fixed", "rectangular"])
@pytest.mark.parametrize("scaleup", [False, True])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("new_shape", [(640, 640), (416, 416), (384, 672)])
def test_frames_of_ultralytics(new_shape: tuple[int, int], center: bool, scaleup: bool, auto: bool) -> None:
    letterbox = Letterbox(
        size=new_shape, centred=center, fill=(114, 114, 114), enlarge=scaleup, stride=32 if auto else None
    )
    compared = 0
    for size in SIZES:
        placed = place_in_frame(letterbox, size)
        ratio = min(new_shape[0] / size[1], new_shape[1] / size[0])
        if round(min(size) * (ratio if scaleup else min(ratio, 1))) == 0:
            assert min(placed.resized) == 1, "OpenCV refuses to make an image without pixels"
            continue
        blank = np.zeros((size[1], size[0], 3), np.uint8)
        frame, place, resized = ultralytics_letterbox(
            blank, new_shape, auto=auto, scaleup=scaleup, center=center, stride=32
        )
        assert (placed.frame, placed.offset, placed.resized) == (frame.shape[1::-1], place, resized), size
        compared += 1
    assert compared > 20


@pytest.mark.parametrize("size", [(640, 480), (97, 31), (13, 500), (640, 640), (1024, 683), (700, 2)])
def test_pixels_of_ultralytics(size: Size) -> None:
    letterbox = Letterbox(size=(640, 640), centred=True, fill=(114, 114, 114), stride=32)
    frame, place, (width, height) = ultralytics_letterbox(
        np.asarray(photo(size)), (640, 640), auto=True, scaleup=True, center=True, stride=32
    )
    pixels = apply_view(View(letterbox=letterbox, interpolation="linear"), photo(size))
    assert pixels.shape == frame.shape
    assert np.abs(pixels.astype(int) - frame).max() <= 1
    outside = np.ones(frame.shape[:2], bool)
    outside[place[1] : place[1] + height, place[0] : place[0] + width] = False
    assert (pixels[outside] == 114).all()


@pytest.mark.parametrize(("shorter", "longer"), [(800, 1333), (320, 640)])
def test_frames_of_torchvision(shorter: int, longer: int) -> None:
    transform = GeneralizedRCNNTransform(shorter, longer, [0.0] * 3, [1.0] * 3).eval()
    letterbox = Letterbox(shorter=shorter, longer=longer, stride=32, rounding="down")
    compared = 0
    for size in SIZES:
        placed = place_in_frame(letterbox, size)
        if int(min(size) * min(shorter / min(size), longer / max(size))) == 0:
            assert min(placed.resized) == 1, "torchvision refuses to make an image without pixels"
            continue
        batch, _ = transform([torch.zeros(3, size[1], size[0])])
        assert placed.resized == batch.image_sizes[0][::-1], size
        assert placed.frame == (batch.tensors.shape[3], batch.tensors.shape[2]), size
        compared += 1
    assert compared > 20


@pytest.mark.parametrize("size", [(160, 120), (33, 50), (300, 40), (640, 480), (700, 1000)])
def test_pixels_and_boxes_of_torchvision(size: Size) -> None:
    transform = GeneralizedRCNNTransform(320, 640, [0.0] * 3, [1.0] * 3).eval()
    letterbox = Letterbox(shorter=320, longer=640, stride=32, rounding="down")
    view = View(letterbox=letterbox, interpolation="linear")
    image = torch.from_numpy(np.asarray(photo(size)).copy()).permute(2, 0, 1).float() / 255
    batch, _ = transform([image])
    expected = (batch.tensors[0].permute(1, 2, 0) * 255).numpy()
    assert np.abs(apply_view(view, photo(size)) - expected).max() < 1.01
    height, width = batch.image_sizes[0]
    boxes = torch.tensor([[0.0, 0.0, width, height], [3.25, 7.5, width / 2, height / 3]])
    (back,) = transform.postprocess([{"boxes": boxes.clone()}], batch.image_sizes, [(size[1], size[0])])
    np.testing.assert_allclose(boxes_to_original(view, size, boxes.numpy()), back["boxes"].numpy(), rtol=1e-5)


def detr_size(size: Size, shortest: int, longest: int) -> Size:
    """`get_size_with_aspect_ratio` of Hugging Face's transformers, written down."""
    width, height = size
    raw_size: float | None = None
    wanted = shortest
    if max(height, width) / min(height, width) * wanted > longest:
        raw_size = longest * float(min(height, width)) / float(max(height, width))
        wanted = round(raw_size)
    if (height <= width and height == wanted) or (width <= height and width == wanted):
        return width, height
    if width < height:
        return wanted, int((wanted if raw_size is None else raw_size) * height / width)
    return int((wanted if raw_size is None else raw_size) * width / height), wanted


@pytest.mark.parametrize(("shorter", "longer"), [(800, 1333), (480, 800), (512, 512)])
def test_frames_of_the_detr_family(shorter: int, longer: int) -> None:
    letterbox = Letterbox(shorter=shorter, longer=longer, rounding="shorter_first")
    for size in SIZES:
        expected = detr_size(size, shorter, longer)
        view = View(letterbox=letterbox)
        assert compute_output_size(view, size) == (max(1, expected[0]), max(1, expected[1])), size
        assert place_in_frame(letterbox, size).offset == (0, 0)
    assert {min(detr_size(size, shorter, longer)) for size in SIZES} > {0, shorter}, "thin images are among them"
