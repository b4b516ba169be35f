"""Masks, boxes and labels onto an image: Pillow only, in place."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from cvbatch.tasks.masks import Mask

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Corners = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels."""

_GOLDEN_TURN = 0.618034
"""Neighbouring label ids get hues far from each other."""
_OPACITY = 0.4
_DARK: Colour = (20, 22, 28)
_LIGHT: Colour = (255, 255, 255)


def colour_of_label(label_id: int) -> Colour:
    """A strong colour that is always the same for a label id."""
    red, green, blue = colorsys.hsv_to_rgb(label_id * _GOLDEN_TURN % 1, 0.8, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


@cache
def load_font(size: int) -> Font:
    """Pillow's own font, so that none needs to be installed; it has no letters beyond ASCII.

    Args:
        size: In pixels.
    """
    return ImageFont.load_default(size=size)


def fit_into_frame(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scale an image to the largest size of the same shape that fits.

    Args:
        image: RGB.
        width: In pixels.
        height: In pixels.
    """
    scale = min(width / image.width, height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def shorten_text(text: str, letters: Font, width: float) -> str:
    """Cut a text that is wider than `width` pixels, and end it in `…`."""
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(f"{text}…") > width:
        text = text[:-1].rstrip()
    return f"{text}…"


def paint_mask(image: Image.Image, mask: Mask, colour: Colour) -> None:
    """Tint what lies inside a mask and outline it.

    Args:
        image: RGB.
        mask: Bool, (height, width), of this shape but of any size.
        colour: Of the tint.
    """
    inside = Image.fromarray(mask.astype(np.uint8) * 255).resize(image.size, Image.Resampling.BILINEAR)
    edge = ImageChops.subtract(inside, inside.filter(ImageFilter.MinFilter(3)))
    tint = inside.point([round(value * _OPACITY) for value in range(256)])
    image.paste(colour, mask=ImageChops.lighter(tint, edge))


def draw_labelled_boxes(
    image: Image.Image, boxes: Sequence[Corners], texts: Sequence[str], colours: Sequence[Colour], *, size: int = 16
) -> None:
    """Draw boxes, each with a text beside one of its corners, no text on another one where there is room.

    Args:
        image: RGB.
        boxes: In pixels of this image, the most important first.
        texts: One for each box; shortened if wider than the image.
        colours: Of each frame and behind its text.
        size: Of the letters, in pixels.
    """
    draw, letters, line = ImageDraw.Draw(image), load_font(size), max(2, size // 6)
    frames = [_clip_box(box, image.size) for box in boxes]
    for frame, colour in reversed(list(zip(frames, colours, strict=True))):
        draw.rectangle(frame, outline=colour, width=line)
    taken: list[_Frame] = []
    for frame, text, colour in zip(frames, texts, colours, strict=True):
        text = shorten_text(text, letters, image.width - size)
        chip = _free_text_position(
            frame, round(letters.getlength(text)) + size // 2, size + size // 3, image.size, taken
        )
        taken.append(chip)
        draw.rectangle(chip, fill=colour)
        draw.text((chip[0] + size // 4, (chip[1] + chip[3]) // 2), text, _text_colour_on(colour), letters, anchor="lm")


_Frame = tuple[int, int, int, int]


def _clip_box(box: Corners, size: tuple[int, int]) -> _Frame:
    """The pixels that a box covers, at least one."""
    left, top = (min(max(round(value), 0), length - 1) for value, length in zip(box[:2], size, strict=True))
    right, bottom = (min(max(round(value), 1), length) - 1 for value, length in zip(box[2:], size, strict=True))
    return left, top, max(left, right), max(top, bottom)


def _free_text_position(
    frame: _Frame, width: int, height: int, size: tuple[int, int], taken: Sequence[_Frame]
) -> _Frame:
    """Above the box, else inside it at the top, at the bottom, else below; the first of them if none is free."""
    left = max(0, min(frame[0], size[0] - width - 1))
    tops = (frame[1] - height - 1, frame[1], frame[3] - height, frame[3] + 1)
    places = [(left, top, left + width, top + height) for top in tops if top >= 0 and top + height < size[1]]
    free = [place for place in places if not any(_overlap_area(place, other) for other in taken)]
    return (free or places or [(left, 0, left + width, height)])[0]


def _overlap_area(one: _Frame, other: _Frame) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _text_colour_on(colour: Colour) -> Colour:
    """Dark letters on a light ground, light ones on a dark ground; luma by ITU-R BT.601."""
    red, green, blue = colour
    return _DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else _LIGHT
