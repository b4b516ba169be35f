"""Pictures as Pillow reads them: the reader of every format that has none of its own."""

from __future__ import annotations

import io

from PIL import Image, ImageFile

from cvbatch.errors import ImageError
from cvbatch.images.colours import to_rgb
from cvbatch.images.exif import orientation, read_facts, read_tags
from cvbatch.images.formats import Format
from cvbatch.images.pillow_guards import pillow_limit
from cvbatch.images.reading import Picture, ReadOptions, check_pixels, too_many_pixels


def read_by_pillow(kind: Format, data: bytes, options: ReadOptions) -> Picture:
    """Read a picture by the part of Pillow that `kind.open` names; a `cvbatch.images.reading.Reader`.

    Raises:
        ImageError: `TooManyPixels`, `TruncatedImage`, `MissingExtra` or `UnsupportedPixels`.
    """
    image, size = _loaded(kind, data, options)
    tags = read_tags(image)
    facts = read_facts(tags) if options.exif else None
    return Picture(to_rgb(image), size, orientation(tags), facts)


def _loaded(kind: Format, data: bytes, options: ReadOptions) -> tuple[ImageFile.ImageFile, tuple[int, int]]:
    try:
        try:
            return _load(kind, data, options)
        except Image.DecompressionBombError:
            with pillow_limit(options.max_pixels):
                return _load(kind, data, options)
    except Image.DecompressionBombError:
        raise too_many_pixels(options.max_pixels) from None


def _load(kind: Format, data: bytes, options: ReadOptions) -> tuple[ImageFile.ImageFile, tuple[int, int]]:
    stream = io.BytesIO(data)
    image = kind.open(stream)
    check_pixels(image.width, image.height, options.max_pixels)
    if kind.must_end and kind.lacks_end(data, stream.tell()):
        raise ImageError("TruncatedImage", f"{kind.name} stops early: its end marker is missing")
    size = image.size
    if options.enough is not None:
        # libjpeg keeps both sides at least as long; others ignore it
        image.draft(image.mode, (options.enough, options.enough))
    image.load()
    return image, size
