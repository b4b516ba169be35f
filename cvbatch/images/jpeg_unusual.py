"""JPEGs that are whole and valid, but not of the kind that everybody means: decoded where that is easy, else named."""

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
    """The same, with the height in its header where the file tells it only after the first scan (DNL; T.81, B.2.5).

    Raises:
        ImageError: `CorruptImage`, if it tells no height at all.
    """
    if layout.size[1]:
        return layout
    told = next((each for each in iter_jpeg_segments(layout.data, layout.scan_start) if each.marker == DNL), None)
    if told is None or len(told.body) != 2 or not any(told.body):
        raise ImageError("CorruptImage", "jpeg cannot be decoded: it tells no height")
    return _replace_frame(layout, layout.frame.body[:1] + told.body + layout.frame.body[3:])


def check_jpeg_supported(layout: JpegLayout) -> None:
    """Refuse what is valid and cannot be read.

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
    """The same as if its samples had 8 bits: its codes can be read alike, its pixels cannot."""
    if layout.bits_per_sample == _STANDARD_BITS:
        return layout
    return _replace_frame(layout, bytes((_STANDARD_BITS,)) + layout.frame.body[1:])


def decode_high_bit_depth(layout: JpegLayout) -> npt.NDArray[np.uint8] | None:
    """Decode what libjpeg reads by other functions than the usual; None for 8 bits.

    Returns:
        (height, width) or (height, width, 3), brought to 8 bits: the largest value becomes 255.
    """
    if layout.bits_per_sample == _STANDARD_BITS:
        return None
    return _scale_to_8_bits(imagecodecs.jpeg8_decode(layout.to_minimal_jpeg()), layout.bits_per_sample)


def decode_jpeg_ls(layout: JpegLayout) -> npt.NDArray[np.uint8]:
    """Decode a JPEG-LS file, as `decode_high_bit_depth` does.

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
    small: npt.NDArray[np.uint8] = ((samples.astype(np.uint32) * 255 + largest // 2) // largest).astype(np.uint8)
    return small


def _replace_frame(layout: JpegLayout, body: bytes) -> JpegLayout:
    frame = replace(layout.frame, body=body)
    return JpegLayout(tuple(frame if each is layout.frame else each for each in layout.segments), frame, layout.data)


def _unsupported_jpeg_error(description: str) -> ImageError:
    return ImageError("UnsupportedImage", f"expected a JPEG of 8 bits in 1, 3 or 4 channels, got {description}")
