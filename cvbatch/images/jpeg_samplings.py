"""JPEGs whose channels have sizes that simplejpeg does not know (3:1, or colours finer than brightness), by Pillow.

Pillow passes libjpeg's warnings over, so the pixels are asked instead: do they depend on what follows the file's own?
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError
from cvbatch.images.formats import JPEG, MALFORMED
from cvbatch.images.jpeg_damage import unnoticed_damage
from cvbatch.images.jpeg_layout import Layout

_ARITHMETIC: Final = 0xC8
"""Frames from here on."""
_MORE: Final = b"\x5a\xa5" * 32
_FILLING: Final = b"\xff"
"""May stand before any marker, as often as one likes (T.81, B.1.1.2)."""


def decode_any_sampling(layout: Layout, enough: int | None, *, keep: bool) -> tuple[npt.NDArray[np.uint8], str | None]:
    """Decode, and look whether the pixels are complete.

    Returns:
        uint8 (height, width), (height, width, 3), or with four channels as libjpeg gives them; what is wrong, or None.

    Raises:
        ImageError: `CorruptImage`.
    """
    whole = layout.whole()
    pixels, damage = _pixels(whole, enough), unnoticed_damage(layout)
    # arithmetic coding has no end of its own
    if layout.frame.marker < _ARITHMETIC and not np.array_equal(
        pixels, _pixels(whole[:-2].rstrip(_FILLING) + _MORE + whole[-2:], enough)
    ):
        damage = "its pixels stop before the picture does"
    if damage and not keep:
        raise ImageError("CorruptImage", f"jpeg is damaged: {damage}")
    return pixels, damage


def _pixels(data: bytes, enough: int | None) -> npt.NDArray[np.uint8]:
    image = JPEG.open(io.BytesIO(data))
    if enough is not None:
        image.draft(image.mode, (enough, enough))
    try:
        image.load()
    except MALFORMED:
        raise ImageError("CorruptImage", "jpeg is damaged: its pixels cannot be read") from None
    pixels: npt.NDArray[np.uint8] = np.asarray(image)
    return 255 - pixels if image.mode == "CMYK" else pixels
