"""JPEGs that need not be decoded here: what their headers tell, if any decoder may be trusted with the rest."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image, ImageFile

from cvbatch.images.exif import ExifMetadata, is_transposed, parse_exif_block, read_exif_metadata, read_orientation
from cvbatch.images.formats import JPEG_FORMAT, MALFORMED_ERRORS
from cvbatch.images.jpeg import is_intact_jpeg
from cvbatch.images.jpeg_layout import BASELINE_FRAME, read_jpeg_layout
from cvbatch.images.jpeg_sidecar import find_exif_block, find_xmp_packet
from cvbatch.images.pillow_guards import quiet_pillow


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What is known of a JPEG before it is decoded."""

    width: int
    """Of the oriented original, in pixels."""
    height: int
    """Of the oriented original, in pixels."""
    format: str
    """As in `cvbatch.images.decode.DecodedImage`."""
    orientation: int
    """How the pixels have to be turned, 1 (not at all) to 8, as Exif counts."""
    exif: ExifMetadata | None = None
    """None unless asked for."""


def read_baseline_header(data: bytes, *, max_pixels: int, exif: bool = False) -> JpegHeader | None:
    """Read the header of a JPEG that any decoder takes: whole, baseline, three channels of YCbCr.

    Args:
        data: The whole file.
        max_pixels: Images whose header promises more are none.
        exif: Also read capture time, camera and position.

    Returns:
        None for every other file; `cvbatch.images.decode.decode` says what is wrong with it, if anything is.
    """
    layout = read_jpeg_layout(data) if JPEG_FORMAT.matches(data) else None
    if layout is None or layout.scan_end is None or layout.frame.marker != BASELINE_FRAME:
        return None
    with quiet_pillow:
        try:
            image = JPEG_FORMAT.open(io.BytesIO(data))
        except (*MALFORMED_ERRORS, Image.DecompressionBombError):
            return None
        if not _is_ycbcr(image) or not 0 < image.width * image.height <= max_pixels:
            return None
        # whoever decodes it may not say that a piece is missing
        if not is_intact_jpeg(layout):
            return None
        block = find_exif_block(layout.segments)
        tags = None if block is None else parse_exif_block(block)
        turn = read_orientation(tags, find_xmp_packet(layout.segments))
        width, height = image.size[::-1] if is_transposed(turn) else image.size
        return JpegHeader(width, height, JPEG_FORMAT.name, turn, read_exif_metadata(tags) if exif else None)


def _is_ycbcr(image: ImageFile.ImageFile) -> bool:
    """Whether three channels are luma and chroma, as far as libjpeg goes by their names and by Adobe's marker."""
    names = bytes(layer[0] for layer in getattr(image, "layer", ()))
    return image.mode == "RGB" and names != b"RGB" and image.info.get("adobe_transform") != 0
