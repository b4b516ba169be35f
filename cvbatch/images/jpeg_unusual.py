"""Rare kinds of valid JPEGs: decode them if a library can, otherwise refuse them with the name of the kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import imagecodecs
import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError
from cvbatch.images.jpeg_layout import DNL, JPEG_LS, JpegLayout, iter_jpeg_segments

LOSSLESS_FRAME: Final = 0xC3
_LOSSLESS_ARITHMETIC_FRAME: Final = 0xCB
_HIERARCHICAL_FRAMES: Final = frozenset({0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF})
_STANDARD_BITS: Final = 8


def resolve_height(layout: JpegLayout) -> JpegLayout:
    """Put the height into the frame header if the file stores it after the first scan (DNL; T.81, B.2.5).

    Raises:
        ImageError: `CorruptImage`, if the file has no height.
    """
    if layout.size[1]:
        return layout
    segments = iter_jpeg_segments(layout.data, layout.scan_start)
    line_count = next((segment for segment in segments if segment.marker == DNL), None)
    if line_count is None or len(line_count.body) != 2 or not any(line_count.body):
        raise ImageError("CorruptImage", "jpeg cannot be decoded: its height is missing")
    return _replace_frame(layout, layout.frame.body[:1] + line_count.body + layout.frame.body[3:])


def check_jpeg_supported(layout: JpegLayout) -> None:
    """Refuse valid JPEGs of a kind that no library here decodes.

    Raises:
        ImageError: `UnsupportedImage`.
    """
    kind, bits, channels = layout.frame.marker, layout.bits_per_sample, layout.channel_count
    if kind in _HIERARCHICAL_FRAMES:
        raise _unsupported_jpeg_error("a hierarchical one")
    if kind == _LOSSLESS_ARITHMETIC_FRAME:
        raise _unsupported_jpeg_error("a lossless one with arithmetic coding")
    if kind not in (LOSSLESS_FRAME, JPEG_LS) and bits not in (_STANDARD_BITS, 12):
        raise _unsupported_jpeg_error(f"one of {bits} bits")
    if channels not in ((1, 3, 4) if bits == _STANDARD_BITS and kind not in (LOSSLESS_FRAME, JPEG_LS) else (1, 3)):
        raise _unsupported_jpeg_error(f"one of {channels} channels and {bits} bits")


def with_8_bit_frame(layout: JpegLayout) -> JpegLayout:
    """Declare samples of 8 bits: the codes stay readable, so damage can be detected, but the pixels are wrong."""
    if layout.bits_per_sample == _STANDARD_BITS:
        return layout
    return _replace_frame(layout, bytes((_STANDARD_BITS,)) + layout.frame.body[1:])


def decode_high_bit_depth(layout: JpegLayout) -> npt.NDArray[np.uint8] | None:
    """Decode samples of more than 8 bits, which libjpeg reads with other functions; None for 8 bits.

    Returns:
        uint8 (height, width) or (height, width, 3), scaled to 8 bits: the largest value becomes 255.
    """
    if layout.bits_per_sample == _STANDARD_BITS:
        return None
    return _scale_to_8_bits(imagecodecs.jpeg8_decode(layout.to_minimal_jpeg()), layout.bits_per_sample)


def decode_jpeg_ls(layout: JpegLayout) -> npt.NDArray[np.uint8]:
    """Decode a JPEG-LS file; the result is as of `decode_high_bit_depth`, also for 8 bits.

    Raises:
        ImageError: `CorruptImage`.
    """
    try:
        return _scale_to_8_bits(imagecodecs.jpegls_decode(layout.data), layout.bits_per_sample)
    except imagecodecs.JpeglsError:
        raise ImageError("CorruptImage", "jpeg is damaged: its pixels cannot be read") from None


def _scale_to_8_bits(samples: npt.NDArray[np.integer[Any]], bits: int) -> npt.NDArray[np.uint8]:
    if bits == _STANDARD_BITS:
        return samples.astype(np.uint8, copy=False)
    largest = (1 << bits) - 1
    scaled: npt.NDArray[np.uint8] = ((samples.astype(np.uint32) * 255 + largest // 2) // largest).astype(np.uint8)
    return scaled


def _replace_frame(layout: JpegLayout, body: bytes) -> JpegLayout:
    frame = replace(layout.frame, body=body)
    segments = (frame if segment is layout.frame else segment for segment in layout.segments)
    return JpegLayout(tuple(segments), frame, layout.data)


def _unsupported_jpeg_error(description: str) -> ImageError:
    return ImageError("UnsupportedImage", f"expected a JPEG of 8 bits in 1, 3 or 4 channels, got {description}")
