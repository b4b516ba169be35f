"""Read TIFFs: the reader of the format."""

from __future__ import annotations

import io
from dataclasses import replace

from PIL import Image

from cvbatch.images.colours import convert_to_rgb
from cvbatch.images.exif import ExifMetadata, read_exif_metadata, read_orientation
from cvbatch.images.formats import JPEG_FORMAT, MALFORMED_ERRORS, ImageFormat
from cvbatch.images.jpeg import read_jpeg
from cvbatch.images.reading import ReadOptions, ReadResult
from cvbatch.images.tiff.compose import compose_image
from cvbatch.images.tiff.directory import TiffDirectory, TiffTag, read_first_directory
from cvbatch.images.tiff.layout import read_block_layout
from cvbatch.images.tiff.pages import MainPage, read_embedded_jpeg, select_main_page
from cvbatch.images.tiff.pillow_tiff import read_usual_tiff
from cvbatch.images.tiff.pixel_format import read_pixel_format
from cvbatch.images.tiff.samples import read_samples


def read_tiff(image_format: ImageFormat, data: bytes, options: ReadOptions) -> ReadResult:
    """Read the first full picture of a TIFF; a `cvbatch.images.reading.FormatReader`.

    Raises:
        ImageError: `TooManyPixels`, `TruncatedImage`, `CorruptImage` or `UnsupportedImage`.
    """
    first = read_first_directory(data)
    page = select_main_page(first)
    orientation = read_page_orientation(page)
    # Pillow can read only the first directory, and rotates it.
    can_use_pillow = page.directory.offset == first.offset and orientation == 1
    result = _read_main_picture(page.directory, options, by_pillow=can_use_pillow)
    return replace(result, orientation=orientation, exif=read_directory_exif(first) if options.exif else None)


def _read_main_picture(directory: TiffDirectory, options: ReadOptions, *, by_pillow: bool) -> ReadResult:
    jpeg = read_embedded_jpeg(directory)
    if jpeg is not None:
        return read_jpeg(JPEG_FORMAT, jpeg, replace(options, exif=False))
    pixel_format = read_pixel_format(directory)
    layout = read_block_layout(directory, pixel_format.samples_per_pixel, options.max_pixels)
    profile = directory.get_bytes(TiffTag.ICC_PROFILE) if options.icc else None
    size = layout.width, layout.height
    image = read_usual_tiff(directory, pixel_format, layout) if by_pillow else None
    if image is not None:
        return ReadResult(convert_to_rgb(image, profile), size)
    samples = read_samples(directory, pixel_format, layout, options.max_pixels)
    return ReadResult(compose_image(samples, pixel_format, directory, profile), size)


def read_page_orientation(page: MainPage) -> int:
    """Read how a picture must be rotated: 1 (upright) to 8, as in Exif."""
    for directory in (page.directory, page.orientation_source):
        orientation = directory.get_integer(TiffTag.ORIENTATION)
        if 1 <= orientation <= 8:
            return orientation
    return read_orientation(
        None, page.directory.get_bytes(TiffTag.XMP) or page.orientation_source.get_bytes(TiffTag.XMP)
    )


def read_directory_exif(first: TiffDirectory) -> ExifMetadata:
    """Read the metadata columns from the first directory of a file."""
    tags = Image.Exif()
    tags.endian = first.byte_order
    tags.bigtiff = first.is_bigtiff
    try:
        tags.load_from_fp(io.BytesIO(first.data[:]), first.offset)
    except MALFORMED_ERRORS:
        return read_exif_metadata(None)
    return read_exif_metadata(tags)
