"""JPEGs that need not be decoded here: what their headers tell, if any decoder may be trusted with the rest."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageFile

from cvbatch.images.exif import ExifFacts, orientation, read_facts, read_tags, sideways
from cvbatch.images.formats import JPEG, MALFORMED
from cvbatch.images.pillow_guards import quiet_pillow

_BASELINE: Final = 0xC0
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers that tell how a JPEG is coded (ITU-T T.81, table B.1)."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a JPEG before it is decoded."""

    width: int
    """Of the oriented original, in pixels."""
    height: int
    """Of the oriented original, in pixels."""
    format: str
    """As in `cvbatch.images.decode.Decoded`."""
    turn: int
    """How the pixels have to be turned, 1 (not at all) to 8, as Exif counts."""
    exif: ExifFacts | None = None
    """None unless asked for."""


def plain_jpeg(data: bytes, *, max_pixels: int, exif: bool = False) -> Header | None:
    """Read the header of a JPEG that any decoder takes: whole, baseline, three channels of YCbCr.

    Args:
        data: The whole file.
        max_pixels: Images whose header promises more are none.
        exif: Also read capture time, camera and position.

    Returns:
        None for every other file; `cvbatch.images.decode.decode` says what is wrong with it, if anything is.
    """
    if not JPEG.accepts(data):
        return None
    stream = io.BytesIO(data)
    with quiet_pillow:
        try:
            image = JPEG.open(stream)
        except (*MALFORMED, Image.DecompressionBombError):
            return None
        if _frame(data) != _BASELINE or not _is_ycbcr(image):
            return None
        if image.width * image.height > max_pixels or JPEG.lacks_end(data, stream.tell()):
            return None
        tags = read_tags(image)
        turn = orientation(tags)
        width, height = image.size[::-1] if sideways(turn) else image.size
        return Header(width, height, JPEG.name, turn, read_facts(tags) if exif else None)


def _frame(data: bytes) -> int | None:
    """The marker of a JPEG's frame; None if none comes before its pixels."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            return marker
        # any number of 0xFF may come before a marker
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _is_ycbcr(image: ImageFile.ImageFile) -> bool:
    """Whether three channels are luma and chroma, as far as libjpeg goes by their names and by Adobe's marker."""
    names = bytes(layer[0] for layer in getattr(image, "layer", ()))
    return image.mode == "RGB" and names != b"RGB" and image.info.get("adobe_transform") != 0
