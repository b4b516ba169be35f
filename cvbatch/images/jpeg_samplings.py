"""JPEGs whose channels have sizes that simplejpeg does not know (3:1, or colours finer than brightness), by Pillow.

Pillow passes libjpeg's warnings over, so the pixels are asked instead: do they depend on what follows the file's own?
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
"""Frames from here on."""
_PROBE_BYTES: Final = b"\x5a\xa5" * 32
_FILL_BYTE: Final = b"\xff"
"""May stand before any marker, as often as one likes (T.81, B.1.1.2)."""


def decode_any_sampling(
    layout: JpegLayout, min_decode_side: int | None, *, keep_damaged: bool
) -> tuple[npt.NDArray[np.uint8], str | None]:
    """Decode, and look whether the pixels are complete.

    Returns:
        uint8 (height, width), (height, width, 3), or with four channels as libjpeg gives them; what is wrong, or None.

    Raises:
        ImageError: `CorruptImage`.
    """
    whole = layout.to_minimal_jpeg()
    pixels, damage = _decode_draft_by_pillow(whole, min_decode_side), find_silent_damage(layout)
    # arithmetic coding has no end of its own
    if layout.frame.marker < _FIRST_ARITHMETIC_FRAME and not np.array_equal(
        pixels, _decode_draft_by_pillow(whole[:-2].rstrip(_FILL_BYTE) + _PROBE_BYTES + whole[-2:], min_decode_side)
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
