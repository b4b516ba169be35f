"""Masks, boxes and labels onto an image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cvbatch.results.draw import (
    colour_of_label,
    draw_labelled_boxes,
    fit_into_frame,
    load_font,
    paint_mask,
    shorten_text,
)

RED, BLUE = (255, 0, 0), (0, 0, 255)
GREY = (128, 128, 128)


def blank(width: int = 200, height: int = 100) -> Image.Image:
    """A grey image."""
    return Image.new("RGB", (width, height), GREY)


def test_colours_are_stable_and_differ() -> None:
    colours = [colour_of_label(label_id) for label_id in range(40)]
    assert colours == [colour_of_label(label_id) for label_id in range(40)]
    assert len(set(colours)) == len(colours)


@pytest.mark.parametrize(
    ("size", "expected"), [((400, 100), (80, 20)), ((100, 400), (10, 40)), ((10, 5), (80, 40)), ((1, 1000), (1, 40))]
)
def test_fit_keeps_the_shape(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fit_into_frame(blank(*size), 80, 40).size == expected


def test_shorten_cuts_only_what_is_too_wide() -> None:
    letters = load_font(16)
    assert shorten_text("espresso", letters, 1000) == "espresso"
    cut = shorten_text("a label that nobody can read in one breath", letters, 100)
    assert cut.endswith("…")
    assert letters.getlength(cut) <= 100
    assert shorten_text("espresso", letters, 0) == "…"


def test_mask_tints_inside_and_leaves_outside() -> None:
    image = blank()
    mask = np.zeros((50, 100), bool)
    mask[10:40, 20:60] = True
    paint_mask(image, mask, RED)
    pixels = np.asarray(image)
    assert (pixels[50, 80] == [179, 77, 77]).all()
    assert (pixels[:10] == GREY).all()
    assert (pixels[:, 130:] == GREY).all()
    assert pixels[50, 38:44, 0].max() > 180, "the edge is stronger than the tint"


def test_box_frames_its_corners() -> None:
    image = blank()
    draw_labelled_boxes(image, [(50, 40, 150, 80)], ["cat"], [RED])
    pixels = np.asarray(image)
    assert (pixels[40, 60:150] == RED).all()
    assert (pixels[79, 50:150] == RED).all()
    assert (pixels[60, 80:140] == GREY).all()
    assert (pixels[41:, 151:] == GREY).all()


@pytest.mark.parametrize("box", [(0, 0, 200, 100), (-9, -9, 3, 3), (190, 90, 260, 160), (5, 5, 5, 5), (300, 0, 400, 9)])
def test_boxes_at_the_border_stay_inside(box: tuple[float, float, float, float]) -> None:
    image = blank()
    draw_labelled_boxes(image, [box], ["a label that is wider than the image that it is drawn on"], [RED])
    assert (np.asarray(image) == RED).all(axis=2).sum() > 500


def test_texts_of_equal_boxes_do_not_hide_each_other() -> None:
    image = blank()
    draw_labelled_boxes(image, [(20, 30, 180, 90)] * 2, ["first", "second"], [RED, BLUE])
    pixels = np.asarray(image)
    filled = [(pixels == colour).all(axis=2).sum(axis=1).argmax() for colour in (RED, BLUE)]
    assert abs(int(filled[0]) - int(filled[1])) >= 16


def test_text_is_readable_on_light_and_dark_colours() -> None:
    for colour in ((250, 250, 120), (20, 20, 120)):
        image = blank()
        draw_labelled_boxes(image, [(20, 40, 180, 90)], ["label"], [colour])
        chip = np.asarray(image.convert("L"))[18:39, 20:60].astype(int)
        assert np.ptp(chip) > 120
