"""Read the headers of JPEGs that any decoder, such as one on a GPU, decodes correctly."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image, ImageFile

from cvbatch.images.exif import ExifMetadata, is_transposed, parse_exif_block, read_exif_metadata, read_orientation
from cvbatch.images.formats import JPEG_FORMAT, MALFORMED_ERRORS
from cvbatch.images.jpeg import is_intact_jpeg
from cvbatch.images.jpeg_layout import BASELINE_FRAME, read_jpeg_layout
from cvbatch.images.jpeg_metadata import find_exif_block, find_xmp_packet
from cvbatch.images.pillow_guards import quiet_pillow


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """Size and metadata of a JPEG, known before decoding."""

    width: int
    """Width of the oriented original, in pixels."""
    height: int
    """Height of the oriented original, in pixels."""
    format: str
    """As in `cvbatch.images.decode.DecodedImage`."""
    orientation: int
    """Rotation that the pixels need: 1 (upright) to 8, as in Exif."""
    exif: ExifMetadata | None = None
    """None unless requested."""


def read_baseline_header(data: bytes, *, max_pixels: int, exif: bool = False) -> JpegHeader | None:
    """Read the header of a JPEG that any decoder supports: intact, baseline, three channels of YCbCr.

    Args:
        data: The whole file.
        max_pixels: For images whose header declares more pixels, the result is None.
        exif: Also read capture time, camera and position.

    Returns:
        The header; None for every other file, which `cvbatch.images.decode.decode` reads or refuses.
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
        # The other decoder may not report missing pixels.
        if not is_intact_jpeg(layout):
            return None
        block = find_exif_block(layout.segments)
        tags = None if block is None else parse_exif_block(block)
        orientation = read_orientation(tags, find_xmp_packet(layout.segments))
        width, height = image.size[::-1] if is_transposed(orientation) else image.size
        return JpegHeader(width, height, JPEG_FORMAT.name, orientation, read_exif_metadata(tags) if exif else None)


def _is_ycbcr(image: ImageFile.ImageFile) -> bool:
    """Whether the image is YCbCr, by the channel names and Adobe's marker, as libjpeg decides."""
    names = bytes(layer[0] for layer in getattr(image, "layer", ()))
    return image.mode == "RGB" and names != b"RGB" and image.info.get("adobe_transform") != 0
