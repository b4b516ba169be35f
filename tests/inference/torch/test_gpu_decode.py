"""JPEGs to views where the networks are; the device of these tests is the CPU, and torchvision's decoder real."""

from __future__ import annotations

import io
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from cvbatch.errors import DeviceLostError
from cvbatch.images.decode import decode
from cvbatch.images.jpeg_header import read_baseline_header
from cvbatch.images.preprocess import View, apply_view
from cvbatch.inference.torch import gpu_decode
from cvbatch.inference.torch.gpu_decode import GpuDecoder
from cvbatch.testing import generate_images

VIEWS = (View(resize=64, crop=(56, 56)), View())
SIZES = [(90, 70), (70, 90), (120, 60)]


def jpeg(image: Image.Image, turn: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    stream = io.BytesIO()
    image.save(stream, "jpeg", exif=exif)
    return stream.getvalue()


def encoded(files: list[bytes]) -> list[npt.NDArray[np.uint8]]:
    return [np.frombuffer(file, np.uint8) for file in files]


def test_views_are_those_of_the_host() -> None:
    files = [jpeg(image, turn) for turn in range(1, 9) for image in generate_images(SIZES)]
    headers = [read_baseline_header(file, max_pixels=10_000) for file in files]
    turns = [header.orientation for header in headers if header]
    sizes = [(header.width, header.height) for header in headers if header]
    assert turns == [turn for turn in range(1, 9) for _ in SIZES]
    found = GpuDecoder(VIEWS, "cpu")(encoded(files), turns, sizes)
    for file, size, images in zip(files, sizes, found, strict=True):
        host = decode(file, max_pixels=10_000)
        assert (host.width, host.height) == size
        assert images is not None
        for view, image in zip(VIEWS, images, strict=True):
            difference = np.abs(image.numpy().astype(int) - apply_view(view, host.image))
            assert difference.max() <= 2


def test_only_what_cannot_be_decoded_is_left_to_the_host() -> None:
    good = [jpeg(image) for image in generate_images([SIZES[0]] * 4)]
    files = [*good[:3], b"\xff\xd8\xff no", good[3]]
    found = GpuDecoder(VIEWS, "cpu")(encoded(files), [1] * 5, [SIZES[0]] * 5)
    assert [images is not None for images in found] == [True, True, True, False, True]


def test_a_lost_device_is_told_from_a_bad_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(gpu_decode, "decode_jpeg", fail)
    (image,) = generate_images(SIZES[:1])
    with pytest.raises(DeviceLostError):
        GpuDecoder(VIEWS, "cpu")(encoded([jpeg(image)]), [1], SIZES[:1])


def test_pieces_are_bounded_by_number_and_by_pixels() -> None:
    assert list(gpu_decode._groups_within_memory([])) == []
    assert list(gpu_decode._groups_within_memory([(10, 10)] * 130)) == [slice(0, 64), slice(64, 128), slice(128, 130)]
    assert list(gpu_decode._groups_within_memory([(8000, 5000), (10, 10)])) == [slice(0, 1), slice(1, 2)], (
        "filled up to the largest"
    )
    assert list(gpu_decode._groups_within_memory([(20_000, 5000), (8000, 100), (100, 4000)])) == [
        slice(0, 1),
        slice(1, 3),
    ]


def test_nothing_is_decoded_of_nothing() -> None:
    assert GpuDecoder(VIEWS, "cpu")([], [], []) == []


def test_turning_moves_pixels_only() -> None:
    image = torch.arange(3 * 2 * 4).view(3, 2, 4)
    assert gpu_decode.apply_orientation(image, 1) is image
    assert gpu_decode.apply_orientation(image, 6).shape == (3, 4, 2)
