"""JPEGs, by libjpeg-turbo through simplejpeg: the pixels are those that Pillow gives, and damage is noticed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import simplejpeg
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.colours import to_rgb
from cvbatch.images.exif import orientation, read_facts, tags_of
from cvbatch.images.formats import Format
from cvbatch.images.jpeg_damage import filling, foreign_markers, in_words, unnoticed_damage
from cvbatch.images.jpeg_layout import JPEG_LS, Layout, read_layout
from cvbatch.images.jpeg_samplings import decode_any_sampling
from cvbatch.images.jpeg_sidecar import exif_of, profile_of, xmp_of
from cvbatch.images.jpeg_unusual import (
    LOSSLESS,
    check_kind,
    decode_jpeg_ls,
    decode_more_bits,
    with_height,
    with_usual_bits,
)
from cvbatch.images.reading import Picture, ReadOptions, check_pixels
from cvbatch.images.scratch import scratch

_COLOURS: Final = {1: "GRAY", 3: "RGBX", 4: "CMYK"}
"""What to ask for, by the number of channels: the layout that Pillow keeps images in."""
_PACKED: Final = {**_COLOURS, 3: "RGB"}
"""The same for arrays of samples."""
_BYTES: Final = {"GRAY": 1, "RGB": 3, "RGBX": 4, "CMYK": 4}
"""Of a pixel."""
_UNKNOWN_SAMPLING: Final = "Could not determine subsampling"
_SCALES: Final = (8, 4, 2)


class UnknownSamplingError(Exception):
    """simplejpeg does not know how the sizes of the channels relate."""


def read_jpeg(kind: Format, data: bytes, options: ReadOptions) -> Picture:
    """Read a JPEG; a `cvbatch.images.reading.Reader`.

    Raises:
        ImageError: `TooManyPixels`, `TruncatedImage`, `CorruptImage` or `UnsupportedImage`.
    """
    layout = read_layout(data)
    if layout is None:
        if kind.lacks_end(data, 0):
            raise ImageError("TruncatedImage", "jpeg stops early: before its pixels begin")
        raise ImageError("CorruptImage", "jpeg cannot be decoded: its header does not lead to pixels")
    layout = with_height(layout)
    check_pixels(*layout.size, options.max_pixels)
    if layout.end is None and not options.keep_damaged:
        raise ImageError("TruncatedImage", "jpeg stops early: its end marker is missing")
    check_kind(layout)
    pixels, damage = _pixels(layout, options)
    if layout.end is None:
        damage = "its end marker is missing"
    block = exif_of(layout.segments)
    tags = None if block is None else tags_of(block)
    return Picture(
        to_rgb(_to_image(pixels, layout.channels), profile_of(layout.segments) if options.icc else None),
        layout.size,
        orientation(tags, xmp_of(layout.segments)),
        read_facts(tags) if options.exif else None,
        damage and f"jpeg is damaged: {damage}",
    )


def _pixels(
    layout: Layout, options: ReadOptions, colours: Mapping[int, str] = _COLOURS
) -> tuple[npt.NDArray[np.uint8], str | None]:
    if layout.frame.marker == JPEG_LS:
        return decode_jpeg_ls(layout), None
    scale = _scale(layout, options.enough)
    try:
        pixels, damage = _decode(with_usual_bits(layout), scale, colours, keep=options.keep_damaged)
    except UnknownSamplingError:
        return decode_any_sampling(layout, options.enough, keep=options.keep_damaged)
    other = decode_more_bits(layout)
    return (pixels if other is None else other), damage


def decode_strictly(layout: Layout) -> npt.NDArray[np.uint8]:
    """Decode what is a JPEG within another file.

    Returns:
        (height, width), or (height, width, channels) as `_PACKED` says.

    Raises:
        ImageError: `CorruptImage` or `UnsupportedImage`.
    """
    check_kind(layout)
    return _pixels(layout, ReadOptions(max_pixels=0), _PACKED)[0]


def is_whole(layout: Layout) -> bool:
    """Whether a JPEG can be decoded without a complaint, at less than the price of its pixels."""
    try:
        # an eighth of its size leaves hardly more to do than to read the codes
        _strictly(layout, "GRAY", _scaled(layout.size, _SCALES[0]))
    except ValueError:
        return False
    return unnoticed_damage(layout) is None


def _scale(layout: Layout, enough: int | None) -> int:
    """By what to divide the sides of an image, to no less than what suffices, as Pillow does."""
    if enough is None or layout.frame.marker == LOSSLESS:
        return 1
    return next((scale for scale in _SCALES if min(layout.size) // enough >= scale), 1)


def _scaled(size: tuple[int, int], scale: int) -> dict[str, int]:
    width, height = (-(-side // scale) for side in size)
    return {"min_width": width, "min_height": height, "min_factor": scale}


def _decode(
    layout: Layout, scale: int, colours: Mapping[int, str], *, keep: bool
) -> tuple[npt.NDArray[np.uint8], str | None]:
    """Pixels as `colours` says, (height, width, channels), and what is wrong with them."""
    colour, scaled = colours[layout.channels], _scaled(layout.size, scale)
    pixels = None
    damage = unnoticed_damage(layout)
    try:
        memory = scratch(scaled["min_width"] * scaled["min_height"] * _BYTES[colour])
        pixels = _strictly(layout, colour, scaled, memory)
    except ValueError as error:
        if _UNKNOWN_SAMPLING in str(error):
            raise UnknownSamplingError from None
        damage = damage or in_words(str(error))
    if damage and not keep:
        raise ImageError("CorruptImage", f"jpeg is damaged: {damage}")
    if pixels is None:
        pixels = _as_far_as_it_goes(layout, colour, scaled)
    return pixels, damage


def _strictly(
    layout: Layout, colour: str, scaled: dict[str, int], memory: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Decode; whatever loses something of the picture is a ValueError with libjpeg's words."""
    end = layout.end
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(layout.whole(), colour, buffer=memory, **scaled)
    except ValueError as error:
        more = filling(str(error), layout)
        if end is None or not more:
            raise
        # libjpeg tells the first warning alone: what is missing before the filling is told without it
        pixels = simplejpeg.decode_jpeg(layout.whole(end=end - more), colour, buffer=memory, **scaled)
    return pixels


def _as_far_as_it_goes(layout: Layout, colour: str, scaled: dict[str, int]) -> npt.NDArray[np.uint8]:
    for data in (layout.whole(), *(layout.whole(end=at) for at in foreign_markers(layout))):
        with suppress(ValueError):
            pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colour, strict=False, **scaled)
            return pixels
    raise ImageError("CorruptImage", "jpeg is damaged: nothing of its picture is left")


def _to_image(pixels: npt.NDArray[np.uint8], channels: int) -> Image.Image:
    """Grey, RGB or CMYK; without a copy where there are three channels."""
    height, width = pixels.shape[:2]
    if channels == 1:
        return Image.fromarray(pixels.reshape(height, width))
    if channels == 4:
        # as Adobe writes it, and Pillow takes all of it: 255 is no ink
        return Image.frombuffer("CMYK", (width, height), 255 - pixels, "raw", "CMYK", 0, 1)
    if pixels.shape[2] == 3:
        return Image.fromarray(pixels)
    flat = pa.UInt8Array.from_buffers(pa.uint8(), pixels.size, [None, pa.py_buffer(pixels)])
    return Image.fromarrow(pa.FixedSizeListArray.from_arrays(flat, 4), "RGB", (width, height))
