"""JPEGs that need not be decoded here: what their headers tell, if any decoder may be trusted with the rest."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image, ImageFile

from cvbatch.images.exif import ExifFacts, orientation, read_facts, sideways, tags_of
from cvbatch.images.formats import JPEG, MALFORMED
from cvbatch.images.jpeg import is_whole
from cvbatch.images.jpeg_layout import BASELINE, read_layout
from cvbatch.images.jpeg_sidecar import exif_of, xmp_of
from cvbatch.images.pillow_guards import quiet_pillow


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
    layout = read_layout(data) if JPEG.accepts(data) else None
    if layout is None or layout.end is None or layout.frame.marker != BASELINE:
        return None
    with quiet_pillow:
        try:
            image = JPEG.open(io.BytesIO(data))
        except (*MALFORMED, Image.DecompressionBombError):
            return None
        if not _is_ycbcr(image) or not 0 < image.width * image.height <= max_pixels:
            return None
        # whoever decodes it may not say that a piece is missing
        if not is_whole(layout):
            return None
        block = exif_of(layout.segments)
        tags = None if block is None else tags_of(block)
        turn = orientation(tags, xmp_of(layout.segments))
        width, height = image.size[::-1] if sideways(turn) else image.size
        return Header(width, height, JPEG.name, turn, read_facts(tags) if exif else None)


def _is_ycbcr(image: ImageFile.ImageFile) -> bool:
    """Whether three channels are luma and chroma, as far as libjpeg goes by their names and by Adobe's marker."""
    names = bytes(layer[0] for layer in getattr(image, "layer", ()))
    return image.mode == "RGB" and names != b"RGB" and image.info.get("adobe_transform") != 0
