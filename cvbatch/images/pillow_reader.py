"""Read pictures with Pillow: for JPEG 2000, and for all formats without a reader of their own."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image, ImageFile

from cvbatch.errors import ImageError
from cvbatch.images.colours import convert_to_rgb
from cvbatch.images.exif import load_exif_tags, parse_exif_block, read_exif_metadata, read_orientation
from cvbatch.images.formats import ImageFormat
from cvbatch.images.jp2_boxes import read_jp2_metadata, strip_metadata_boxes
from cvbatch.images.jp2_components import (
    decode_deep_components,
    has_deep_components,
    read_component_depths,
    scale_to_full_range,
)
from cvbatch.images.pillow_guards import pillow_pixel_limit
from cvbatch.images.reading import ReadOptions, ReadResult, check_pixel_count, too_many_pixels_error


def read_by_pillow(image_format: ImageFormat, data: bytes, options: ReadOptions) -> ReadResult:
    """Read a picture with the Pillow plugin of `image_format`; a `cvbatch.images.reading.FormatReader`.

    Raises:
        ImageError: `TooManyPixels`, `TruncatedImage`, `MissingExtra` or `UnsupportedImage`.
    """
    image, size = _load_within_limit(image_format, data, options)
    profile = image.info.get("icc_profile") if options.icc else None
    xmp = read_image_xmp(image_format, data, image)
    tags = load_exif_tags(image)
    metadata = read_exif_metadata(tags) if options.exif else None
    return ReadResult(convert_to_rgb(image, profile), size, read_orientation(tags, xmp), metadata)


def read_image_xmp(image_format: ImageFormat, data: bytes, image: ImageFile.ImageFile) -> object:
    """Return the XMP packet that may say how a picture must be rotated; None if there is none."""
    if image_format.name in _ORIENTED_BY_BOXES:
        image.info.pop("xmp", None)
    return _read_gif_xmp(data) if image_format.name == "gif" else image.info.get("xmp")


_ORIENTED_BY_BOXES: Final = ("avif", "heif")
"""Formats whose own boxes define the rotation, whatever XMP says (ISO/IEC 23008-12, 6.5.10 and 6.5.12)."""


def _read_gif_xmp(data: bytes) -> bytes | None:
    """Return the XMP packet, an application extension that ends where its magic trailer starts (XMP part 3, 1.1.2)."""
    start = data.find(b"\x21\xff\x0bXMP DataXMP")
    end = data.find(b"\x01\xff\xfe\xfd", start)
    return data[start:end] if 0 <= start < end else None


def read_jpeg2000(image_format: ImageFormat, data: bytes, options: ReadOptions) -> ReadResult:
    """Read a JPEG 2000 picture; its metadata boxes, which Pillow ignores, are read as well. A `FormatReader`.

    Raises:
        ImageError: As `read_by_pillow`, or `CorruptImage`.
    """
    boxes = read_jp2_metadata(data)
    picture = strip_metadata_boxes(data)
    depths = read_component_depths(picture)
    is_deep = has_deep_components(depths)
    image, size = _load_within_limit(image_format, picture, options, load=not is_deep)
    tags = None if boxes.exif is None else parse_exif_block(boxes.exif)
    metadata = read_exif_metadata(tags) if options.exif else None
    image8 = decode_deep_components(picture, depths, image.mode) if is_deep else scale_to_full_range(image, depths)
    rgb = convert_to_rgb(image8, boxes.profile if options.icc else None)
    return ReadResult(rgb, size, read_orientation(tags, boxes.xmp), metadata)


def _load_within_limit(
    image_format: ImageFormat, data: bytes, options: ReadOptions, *, load: bool = True
) -> tuple[ImageFile.ImageFile, tuple[int, int]]:
    try:
        try:
            return _load_pillow_image(image_format, data, options, load)
        except Image.DecompressionBombError:
            with pillow_pixel_limit(options.max_pixels):
                return _load_pillow_image(image_format, data, options, load)
    except Image.DecompressionBombError:
        raise too_many_pixels_error(options.max_pixels) from None


def _load_pillow_image(
    image_format: ImageFormat, data: bytes, options: ReadOptions, load: bool
) -> tuple[ImageFile.ImageFile, tuple[int, int]]:
    stream = io.BytesIO(data)
    image = image_format.open(stream)
    check_pixel_count(image.width, image.height, options.max_pixels)
    if image_format.needs_end_marker and image_format.is_truncated(data, stream.tell()):
        raise ImageError("TruncatedImage", f"{image_format.name} stops early: its end marker is missing")
    size = image.size
    if load:
        image.load()
    return image, size
