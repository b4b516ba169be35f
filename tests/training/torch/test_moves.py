"""Boxes and label maps move as the pixels do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cvbatch.config.train_job import AugmentConfig
from cvbatch.images.decode import DecodedImage
from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import View
from cvbatch.training.torch.base import ImagePlace
from cvbatch.training.torch.moves import move_image

CHANGES = AugmentConfig(crop=(0.5, 1.0), aspect=1.5, flip=0.5, colour=0.0)
VIEWS = (
    View(),
    View(resize=64),
    View(letterbox=Letterbox(size=(96, 96))),
    View(letterbox=Letterbox(shorter=80, longer=80, rounding="down")),
)


def example(scale: int = 1) -> tuple[DecodedImage, np.ndarray, np.ndarray]:
    """A white rectangle on black, its box and its map; perhaps decoded at a smaller size."""
    labels = np.zeros((120, 160), np.int64)
    labels[40:80, 48:112] = 1
    pixels = Image.fromarray(np.repeat((labels * 255).astype(np.uint8)[..., None], 3, axis=2))
    image = pixels.resize((160 // scale, 120 // scale), Image.Resampling.BOX)
    return (
        DecodedImage(image=image, width=160, height=120, format="PNG"),
        np.array([[48, 40, 112, 80]], np.float32),
        labels,
    )


def place(epoch: int, changes: AugmentConfig | None = CHANGES) -> ImagePlace:
    return ImagePlace(image=5, epoch=epoch, seed=1, changes=changes)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("scale", [1, 2])
def test_boxes_and_maps_lie_where_the_pixels_are(view: View, scale: int) -> None:
    decoded, boxes, labels = example(scale)
    flips = set()
    for epoch in range(12):
        moved = move_image(decoded, view, place(epoch, None if epoch == 0 else CHANGES))
        white = moved.pixels[..., 0] > 127
        label_map = moved.move.label_map(labels).numpy()
        assert label_map.shape == white.shape
        assert ((label_map == 1) != white).mean() < 0.02
        corners, kept = moved.move.boxes(boxes)
        rows, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
        assert kept.tolist() == [0]
        expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(corners[0].numpy(), expected, atol=1.6 * scale)
        flips.add(moved.move.flip)
    assert flips == {True, False}


def test_the_frame_around_an_image_does_not_count() -> None:
    decoded, _, labels = example()
    label_map = move_image(decoded, VIEWS[2], place(0, None)).move.label_map(labels)
    assert (label_map[:72] >= 0).all()
    assert (label_map[72:] == -1).all()


def test_boxes_that_a_crop_hides_are_left_out() -> None:
    decoded, _, _ = example()
    moved = move_image(decoded, View(), ImagePlace(image=0, epoch=0, seed=0, changes=CHANGES)).move
    left, top, width, height = moved.region
    boxes = np.array(
        [
            [left, top, left + width, top + height],
            [left - 9, top, left + 1, top + height],  # a tenth is visible
            [left + width + 3, top, left + width + 9, top + 9],
        ],
        np.float32,
    )
    _, kept = moved.boxes(boxes)
    assert kept.tolist() == [0]
    none, kept = moved.boxes(np.zeros((0, 4), np.float32))
    assert (none.shape, len(kept)) == (torch.Size([0, 4]), 0)


def test_the_same_seed_epoch_and_image_move_alike() -> None:
    decoded, _, _ = example()
    first, again, other = (move_image(decoded, VIEWS[2], place(epoch)) for epoch in (3, 3, 4))
    assert first.move == again.move
    assert (first.pixels == again.pixels).all()
    assert first.move != other.move
