"""Pictures as Pillow reads them: the reader of every format that has none of its own."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image, ImageFile

from cvbatch.errors import ImageError
from cvbatch.images.colours import to_rgb
from cvbatch.images.exif import orientation, read_facts, read_tags, tags_of
from cvbatch.images.formats import Format
from cvbatch.images.jp2_boxes import beside, without_others
from cvbatch.images.jp2_components import components, decode_deep, is_deep, to_full_range
from cvbatch.images.pillow_guards import pillow_limit
from cvbatch.images.reading import Picture, ReadOptions, check_pixels, too_many_pixels


def read_by_pillow(kind: Format, data: bytes, options: ReadOptions) -> Picture:
    """Read a picture by the part of Pillow that `kind.open` names; a `cvbatch.images.reading.Reader`.

    Raises:
        ImageError: `TooManyPixels`, `TruncatedImage`, `MissingExtra` or `UnsupportedImage`.
    """
    image, size = _loaded(kind, data, options)
    profile = image.info.get("icc_profile") if options.icc else None
    if kind.name in _TURNED_BY_BOXES:
        image.info.pop("xmp", None)
    xmp = _xmp_of_gif(data) if kind.name == "gif" else image.info.get("xmp")
    tags = read_tags(image)
    facts = read_facts(tags) if options.exif else None
    return Picture(to_rgb(image, profile), size, orientation(tags, xmp), facts)


_TURNED_BY_BOXES: Final = ("avif", "heif")
"""Their boxes say how to turn the picture, whatever XMP says (ISO/IEC 23008-12, 6.5.10 and 6.5.12)."""


def _xmp_of_gif(data: bytes) -> bytes | None:
    """The packet of an application extension, which ends where its trailer of all bytes begins (XMP part 3, 1.1.2)."""
    start = data.find(b"\x21\xff\x0bXMP DataXMP")
    end = data.find(b"\x01\xff\xfe\xfd", start)
    return data[start:end] if 0 <= start < end else None


def read_jpeg2000(kind: Format, data: bytes, options: ReadOptions) -> Picture:
    """Read a JPEG 2000 picture by Pillow, which does not look at the boxes beside it; a `Reader`.

    Raises:
        ImageError: As `read_by_pillow` does.
    """
    found = beside(data)
    lean = without_others(data)
    depths = components(lean)
    deep = is_deep(depths)
    image, size = _loaded(kind, lean, options, load=not deep)
    tags = None if found.exif is None else tags_of(found.exif)
    facts = read_facts(tags) if options.exif else None
    whole = decode_deep(lean, depths, image.mode) if deep else to_full_range(image, depths)
    rgb = to_rgb(whole, found.profile if options.icc else None)
    return Picture(rgb, size, orientation(tags, found.xmp), facts)


def _loaded(
    kind: Format, data: bytes, options: ReadOptions, *, load: bool = True
) -> tuple[ImageFile.ImageFile, tuple[int, int]]:
    try:
        try:
            return _load(kind, data, options, load)
        except Image.DecompressionBombError:
            with pillow_limit(options.max_pixels):
                return _load(kind, data, options, load)
    except Image.DecompressionBombError:
        raise too_many_pixels(options.max_pixels) from None


def _load(kind: Format, data: bytes, options: ReadOptions, load: bool) -> tuple[ImageFile.ImageFile, tuple[int, int]]:
    stream = io.BytesIO(data)
    image = kind.open(stream)
    check_pixels(image.width, image.height, options.max_pixels)
    if kind.must_end and kind.lacks_end(data, stream.tell()):
        raise ImageError("TruncatedImage", f"{kind.name} stops early: its end marker is missing")
    size = image.size
    if load:
        image.load()
    return image, size
