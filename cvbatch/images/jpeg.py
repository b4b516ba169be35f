"""Read JPEGs with libjpeg-turbo through simplejpeg: pixels equal to those of Pillow, and damage is detected."""

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
from cvbatch.images.colours import convert_to_rgb
from cvbatch.images.exif import parse_exif_block, read_exif_metadata, read_orientation
from cvbatch.images.formats import ImageFormat
from cvbatch.images.jpeg_damage import (
    count_padding_bytes,
    describe_libjpeg_warning,
    find_silent_damage,
    find_stray_markers,
)
from cvbatch.images.jpeg_layout import JPEG_LS, JpegLayout, read_jpeg_layout
from cvbatch.images.jpeg_metadata import find_exif_block, find_icc_profile, find_xmp_packet
from cvbatch.images.jpeg_samplings import decode_any_sampling
from cvbatch.images.jpeg_unusual import (
    LOSSLESS_FRAME,
    check_jpeg_supported,
    decode_high_bit_depth,
    decode_jpeg_ls,
    resolve_height,
    with_8_bit_frame,
)
from cvbatch.images.reading import ReadOptions, ReadResult, check_pixel_count
from cvbatch.images.scratch import get_scratch_buffer

_IMAGE_COLORSPACES: Final = {1: "GRAY", 3: "RGBX", 4: "CMYK"}
"""Colour spaces to request, by number of channels: the layout in which Pillow stores images."""
_ARRAY_COLORSPACES: Final = {**_IMAGE_COLORSPACES, 3: "RGB"}
"""Colour spaces for arrays of samples."""
_BYTES_PER_PIXEL: Final = {"GRAY": 1, "RGB": 3, "RGBX": 4, "CMYK": 4}
_UNKNOWN_SAMPLING_MESSAGE: Final = "Could not determine subsampling"
_SCALE_DIVISORS: Final = (8, 4, 2)


class UnknownSamplingError(Exception):
    """simplejpeg does not support the chroma subsampling of a JPEG."""


def read_jpeg(image_format: ImageFormat, data: bytes, options: ReadOptions) -> ReadResult:
    """Read a JPEG; a `cvbatch.images.reading.FormatReader`.

    Raises:
        ImageError: `TooManyPixels`, `TruncatedImage`, `CorruptImage` or `UnsupportedImage`.
    """
    layout = read_jpeg_layout(data)
    if layout is None:
        if image_format.is_truncated(data, 0):
            raise ImageError("TruncatedImage", "jpeg stops early: before its pixels start")
        raise ImageError("CorruptImage", "jpeg cannot be decoded: its header is damaged")
    layout = resolve_height(layout)
    check_pixel_count(*layout.size, options.max_pixels)
    if layout.scan_end is None and not options.keep_damaged:
        raise ImageError("TruncatedImage", "jpeg stops early: its end marker is missing")
    check_jpeg_supported(layout)
    pixels, damage = _decode_jpeg_pixels(layout, options)
    if layout.scan_end is None:
        damage = "its end marker is missing"
    block = find_exif_block(layout.segments)
    tags = None if block is None else parse_exif_block(block)
    return ReadResult(
        convert_to_rgb(
            _to_pillow_image(pixels, layout.channel_count), find_icc_profile(layout.segments) if options.icc else None
        ),
        layout.size,
        read_orientation(tags, find_xmp_packet(layout.segments)),
        read_exif_metadata(tags) if options.exif else None,
        damage and f"jpeg is damaged: {damage}",
    )


def _decode_jpeg_pixels(
    layout: JpegLayout, options: ReadOptions, colorspaces: Mapping[int, str] = _IMAGE_COLORSPACES
) -> tuple[npt.NDArray[np.uint8], str | None]:
    if layout.frame.marker == JPEG_LS:
        return decode_jpeg_ls(layout), None
    scale = _choose_scale_divisor(layout, options.min_decode_side)
    try:
        pixels, damage = _decode_checked(
            with_8_bit_frame(layout), scale, colorspaces, keep_damaged=options.keep_damaged
        )
    except UnknownSamplingError:
        return decode_any_sampling(layout, options.min_decode_side, keep_damaged=options.keep_damaged)
    deep_pixels = decode_high_bit_depth(layout)
    return (pixels if deep_pixels is None else deep_pixels), damage


def decode_embedded_jpeg(layout: JpegLayout) -> npt.NDArray[np.uint8]:
    """Decode a JPEG that is part of another file.

    Returns:
        uint8 (height, width) or (height, width, channels), in a colour space of `_ARRAY_COLORSPACES`.

    Raises:
        ImageError: `CorruptImage` or `UnsupportedImage`.
    """
    check_jpeg_supported(layout)
    return _decode_jpeg_pixels(layout, ReadOptions(max_pixels=0), _ARRAY_COLORSPACES)[0]


def is_intact_jpeg(layout: JpegLayout) -> bool:
    """Whether a JPEG decodes without a warning; cheaper than full decoding."""
    return find_damaged_pixels(layout) is None and find_silent_damage(layout) is None


def find_damaged_pixels(layout: JpegLayout) -> str | None:
    """Describe the damage that libjpeg warns of; None if there is none, or nothing but padding."""
    try:
        # At an eighth of the size, there is little work beyond entropy decoding.
        _decode_strict(layout, "GRAY", _scaling_options(layout.size, _SCALE_DIVISORS[0]))
    except ValueError as error:
        return describe_libjpeg_warning(str(error))
    return None


def _choose_scale_divisor(layout: JpegLayout, min_decode_side: int | None) -> int:
    """Choose the divisor of the sides that keeps the shorter one at least `min_decode_side`, as Pillow does."""
    if min_decode_side is None or layout.frame.marker == LOSSLESS_FRAME:
        return 1
    return next((scale for scale in _SCALE_DIVISORS if min(layout.size) // min_decode_side >= scale), 1)


def _scaling_options(size: tuple[int, int], scale: int) -> dict[str, int]:
    width, height = (-(-side // scale) for side in size)
    return {"min_width": width, "min_height": height, "min_factor": scale}


def _decode_checked(
    layout: JpegLayout, scale: int, colorspaces: Mapping[int, str], *, keep_damaged: bool
) -> tuple[npt.NDArray[np.uint8], str | None]:
    """Decode to uint8 (height, width, channels) in a colour space of `colorspaces`; also return the damage, or None."""
    colorspace, scaling = colorspaces[layout.channel_count], _scaling_options(layout.size, scale)
    pixels = None
    damage = find_silent_damage(layout)
    try:
        memory = get_scratch_buffer(scaling["min_width"] * scaling["min_height"] * _BYTES_PER_PIXEL[colorspace])
        pixels = _decode_strict(layout, colorspace, scaling, memory)
    except ValueError as error:
        if _UNKNOWN_SAMPLING_MESSAGE in str(error):
            raise UnknownSamplingError from None
        damage = damage or describe_libjpeg_warning(str(error))
    if damage and not keep_damaged:
        raise ImageError("CorruptImage", f"jpeg is damaged: {damage}")
    if pixels is None:
        pixels = _decode_lenient(layout, colorspace, scaling)
    return pixels, damage


def _decode_strict(
    layout: JpegLayout, colorspace: str, scaling: dict[str, int], memory: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Decode; damage that loses part of the picture raises ValueError with libjpeg's message."""
    end = layout.scan_end
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            layout.to_minimal_jpeg(), colorspace, buffer=memory, **scaling
        )
    except ValueError as error:
        padding_bytes = count_padding_bytes(str(error), layout)
        if end is None or not padding_bytes:
            raise
        # libjpeg reports only its first warning. Without the padding, it reports pixels that are missing before it.
        pixels = simplejpeg.decode_jpeg(
            layout.to_minimal_jpeg(scan_end=end - padding_bytes), colorspace, buffer=memory, **scaling
        )
    return pixels


def _decode_lenient(layout: JpegLayout, colorspace: str, scaling: dict[str, int]) -> npt.NDArray[np.uint8]:
    for data in (
        layout.to_minimal_jpeg(),
        *(layout.to_minimal_jpeg(scan_end=offset) for offset in find_stray_markers(layout)),
    ):
        with suppress(ValueError):
            pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace, strict=False, **scaling)
            return pixels
    raise ImageError("CorruptImage", "jpeg is damaged: nothing of its picture can be decoded")


def _to_pillow_image(pixels: npt.NDArray[np.uint8], channels: int) -> Image.Image:
    """Wrap pixels as a grey, RGB or CMYK image; three channels are not copied."""
    height, width = pixels.shape[:2]
    if channels == 1:
        return Image.fromarray(pixels.reshape(height, width))
    if channels == 4:
        # As Adobe writes CMYK, and as Pillow reads all CMYK: 255 is no ink.
        return Image.frombuffer("CMYK", (width, height), 255 - pixels, "raw", "CMYK", 0, 1)
    if pixels.shape[2] == 3:
        return Image.fromarray(pixels)
    flat = pa.UInt8Array.from_buffers(pa.uint8(), pixels.size, [None, pa.py_buffer(pixels)])
    return Image.fromarrow(pa.FixedSizeListArray.from_arrays(flat, 4), "RGB", (width, height))
