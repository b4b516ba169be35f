"""Decode JPEGs with chroma subsampling that simplejpeg does not support (3:1, or chroma finer than luma), with Pillow.

Pillow drops libjpeg's warnings, so missing pixels are detected in another way: the file is decoded again with bytes
appended to its pixels. If the result differs, the decoder ran past the end of the pixels.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError
from cvbatch.images.formats import JPEG_FORMAT, MALFORMED_ERRORS
from cvbatch.images.jpeg_damage import find_silent_damage
from cvbatch.images.jpeg_layout import JpegLayout

_FIRST_ARITHMETIC_FRAME: Final = 0xC8
"""This and all higher frame markers use arithmetic coding."""
_PROBE_BYTES: Final = b"\x5a\xa5" * 32
_FILL_BYTE: Final = b"\xff"
"""Any number of these may precede a marker (T.81, B.1.1.2)."""


def decode_any_sampling(
    layout: JpegLayout, min_decode_side: int | None, *, keep_damaged: bool
) -> tuple[npt.NDArray[np.uint8], str | None]:
    """Decode, and check whether the pixels are complete.

    Returns:
        uint8 (height, width), (height, width, 3), or (height, width, 4) as libjpeg gives them; and the damage, or None.

    Raises:
        ImageError: `CorruptImage`.
    """
    minimal = layout.to_minimal_jpeg()
    pixels, damage = _decode_draft_by_pillow(minimal, min_decode_side), find_silent_damage(layout)
    # Arithmetic coding does not mark where its pixels end.
    if layout.frame.marker < _FIRST_ARITHMETIC_FRAME and not np.array_equal(
        pixels, _decode_draft_by_pillow(minimal[:-2].rstrip(_FILL_BYTE) + _PROBE_BYTES + minimal[-2:], min_decode_side)
    ):
        damage = "its pixels stop before the picture does"
    if damage and not keep_damaged:
        raise ImageError("CorruptImage", f"jpeg is damaged: {damage}")
    return pixels, damage


def _decode_draft_by_pillow(data: bytes, min_decode_side: int | None) -> npt.NDArray[np.uint8]:
    image = JPEG_FORMAT.open(io.BytesIO(data))
    if min_decode_side is not None:
        image.draft(image.mode, (min_decode_side, min_decode_side))
    try:
        image.load()
    except MALFORMED_ERRORS:
        raise ImageError("CorruptImage", "jpeg is damaged: its pixels cannot be read") from None
    pixels: npt.NDArray[np.uint8] = np.asarray(image)
    return 255 - pixels if image.mode == "CMYK" else pixels
