"""Drawing masks, boxes and labels on an image, in place, with Pillow only."""

from __future__ import annotations

import colorsys
import unicodedata
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
"""Golden ratio conjugate, in turns: neighbouring label ids get very different hues."""
_OPACITY = 0.4
_DARK: Colour = (20, 22, 28)
_LIGHT: Colour = (255, 255, 255)


def colour_of_label(label_id: int) -> Colour:
    """A strong colour that depends only on the label id."""
    red, green, blue = colorsys.hsv_to_rgb(label_id * _GOLDEN_TURN % 1, 0.8, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


@cache
def load_font(size: int) -> Font:
    """Load Pillow's built-in font, which needs no installation and has only ASCII letters.

    Args:
        size: In pixels.
    """
    return ImageFont.load_default(size=size)


def spell_in_ascii(text: str) -> str:
    """Spell a name with the letters that the font has: without accents, and the code points of all others."""
    letters = (letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return "".join(letters).encode("ascii", "backslashreplace").decode()


def fit_into_frame(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scale an image to the largest size that fits a frame and keeps the aspect ratio.

    Args:
        image: RGB.
        width: Frame width in pixels.
        height: Frame height in pixels.
    """
    scale = min(width / image.width, height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def draw_surroundings(
    photo: Image.Image, box: Corners, *, side: float, edge: int, ground: Colour, colour: Colour
) -> Image.Image:
    """Cut a square around the middle of a box out of a photo, and draw the box.

    Args:
        photo: RGB.
        box: In pixels of the photo.
        side: Of the square, in pixels of the photo.
        edge: Of the result, in pixels.
        ground: Where the photo ends.
        colour: Of the box.

    Returns:
        RGB, (edge, edge).
    """
    x_min, y_min, x_max, y_max = box
    left, top = (x_min + x_max - side) / 2, (y_min + y_max - side) / 2
    scale = edge / side
    area = Image.new("RGB", (edge, edge), ground)
    inside = (max(left, 0), max(top, 0), min(left + side, photo.width), min(top + side, photo.height))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        return area
    width, height = (max(1, round((inside[index + 2] - inside[index]) * scale)) for index in (0, 1))
    part = photo.resize((width, height), Image.Resampling.LANCZOS, box=inside)
    area.paste(part, (round((inside[0] - left) * scale), round((inside[1] - top) * scale)))
    frame = ((x_min - left) * scale, (y_min - top) * scale, (x_max - left) * scale, (y_max - top) * scale)
    ImageDraw.Draw(area).rectangle(frame, outline=colour, width=2)
    return area


def shorten_text(text: str, font: Font, width: float) -> str:
    """Cut text that is wider than `width` pixels, and add `…`."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1].rstrip()
    return f"{text}…"


def paint_mask(image: Image.Image, mask: Mask, colour: Colour) -> None:
    """Tint the area of a mask and draw its outline.

    Args:
        image: RGB.
        mask: Bool, (height, width); scaled to the size of the image.
        colour: Colour of tint and outline.
    """
    inside = Image.fromarray(mask.astype(np.uint8) * 255).resize(image.size, Image.Resampling.BILINEAR)
    edge = ImageChops.subtract(inside, inside.filter(ImageFilter.MinFilter(3)))
    tint = inside.point([round(value * _OPACITY) for value in range(256)])
    image.paste(colour, mask=ImageChops.lighter(tint, edge))


def draw_labelled_boxes(
    image: Image.Image, boxes: Sequence[Corners], texts: Sequence[str], colours: Sequence[Colour], *, size: int = 16
) -> None:
    """Draw boxes, each with a text at one of its corners; texts do not overlap where there is room.

    Args:
        image: RGB.
        boxes: Corners in pixels of this image, the most important box first.
        texts: One text for each box; shortened if it is wider than the image.
        colours: Colour of each frame and of the background of its text.
        size: Font size in pixels.
    """
    draw, font, line_width = ImageDraw.Draw(image), load_font(size), max(2, size // 6)
    frames = [_clip_box(box, image.size) for box in boxes]
    for frame, colour in reversed(list(zip(frames, colours, strict=True))):
        draw.rectangle(frame, outline=colour, width=line_width)
    text_frames: list[_Frame] = []
    for frame, text, colour in zip(frames, texts, colours, strict=True):
        text = shorten_text(text, font, image.width - size)
        width, height = round(font.getlength(text)) + size // 2, size + size // 3
        text_frame = _free_text_position(frame, width, height, image.size, text_frames)
        text_frames.append(text_frame)
        draw.rectangle(text_frame, fill=colour)
        position = (text_frame[0] + size // 4, (text_frame[1] + text_frame[3]) // 2)
        draw.text(position, text, _text_colour_on(colour), font, anchor="lm")


_Frame = tuple[int, int, int, int]


def _clip_box(box: Corners, size: tuple[int, int]) -> _Frame:
    """The pixels that a box covers inside the image, at least one."""
    left, top = (min(max(round(value), 0), length - 1) for value, length in zip(box[:2], size, strict=True))
    right, bottom = (min(max(round(value), 1), length) - 1 for value, length in zip(box[2:], size, strict=True))
    return left, top, max(left, right), max(top, bottom)


def _free_text_position(
    frame: _Frame, width: int, height: int, size: tuple[int, int], text_frames: Sequence[_Frame]
) -> _Frame:
    """First free position: above the box, inside at the top or bottom, below; the first one if none is free."""
    left = max(0, min(frame[0], size[0] - width - 1))
    tops = (frame[1] - height - 1, frame[1], frame[3] - height, frame[3] + 1)
    candidates = [(left, top, left + width, top + height) for top in tops if top >= 0 and top + height < size[1]]
    free = [candidate for candidate in candidates if not any(_frames_overlap(candidate, text) for text in text_frames)]
    return (free or candidates or [(left, 0, left + width, height)])[0]


def _frames_overlap(first: _Frame, second: _Frame) -> bool:
    return first[0] <= second[2] and second[0] <= first[2] and first[1] <= second[3] and second[1] <= first[3]


def _text_colour_on(colour: Colour) -> Colour:
    """Dark text on a light background, light text on a dark background; luma by ITU-R BT.601."""
    red, green, blue = colour
    return _DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else _LIGHT
