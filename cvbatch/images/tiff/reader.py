"""TIFFs to pictures: the reader of the format."""

from __future__ import annotations

import io
from dataclasses import replace

from PIL import Image

from cvbatch.images.colours import to_rgb
from cvbatch.images.exif import ExifFacts, orientation, read_facts
from cvbatch.images.formats import JPEG, MALFORMED, Format
from cvbatch.images.jpeg import read_jpeg
from cvbatch.images.reading import Picture, ReadOptions
from cvbatch.images.tiff.compose import compose
from cvbatch.images.tiff.directory import Directory, Tag, first_directory
from cvbatch.images.tiff.layout import layout_of
from cvbatch.images.tiff.meaning import meaning_of
from cvbatch.images.tiff.pages import Page, jpeg_of, main_page
from cvbatch.images.tiff.samples import read_samples
from cvbatch.images.tiff.usual import read_usual


def read_tiff(kind: Format, data: bytes, options: ReadOptions) -> Picture:
    """Read the first full picture of a TIFF; a `cvbatch.images.reading.Reader`.

    Raises:
        ImageError: `TooManyPixels`, `TruncatedImage`, `CorruptImage` or `UnsupportedImage`.
    """
    first = first_directory(data)
    page = main_page(first)
    turn = _orientation(page)
    # Pillow reads the first directory, and turns what it reads.
    picture = _picture(page.directory, options, by_pillow=page.directory.at == first.at and turn == 1)
    return replace(picture, orientation=turn, exif=_facts(first) if options.exif else None)


def _picture(directory: Directory, options: ReadOptions, *, by_pillow: bool) -> Picture:
    whole = jpeg_of(directory)
    if whole is not None:
        return read_jpeg(JPEG, whole, replace(options, exif=False))
    meaning = meaning_of(directory)
    layout = layout_of(directory, meaning.samples, options.max_pixels)
    profile = directory.raw(Tag.ICC_PROFILE) if options.icc else None
    size = layout.width, layout.height
    usual = read_usual(directory, meaning, layout) if by_pillow else None
    if usual is not None:
        return Picture(to_rgb(usual, profile), size)
    samples = read_samples(directory, meaning, layout, options.max_pixels)
    return Picture(compose(samples, meaning, directory, profile), size)


def _orientation(page: Page) -> int:
    for directory in (page.directory, page.upright):
        said = directory.number(Tag.ORIENTATION)
        if 1 <= said <= 8:
            return said
    return orientation(None, page.directory.raw(Tag.XMP) or page.upright.raw(Tag.XMP))


def _facts(first: Directory) -> ExifFacts:
    tags = Image.Exif()
    tags.endian = first.order
    tags.bigtiff = first.is_big
    try:
        tags.load_from_fp(io.BytesIO(first.data), first.at)
    except MALFORMED:
        return read_facts(None)
    return read_facts(tags)
