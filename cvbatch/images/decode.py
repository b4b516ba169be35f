"""Bytes of an image file to oriented RGB pixels: all of the file, or a named error."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageFile

from cvbatch.errors import ImageError
from cvbatch.images.exif import ExifFacts, orientation, read_facts, read_tags, sideways
from cvbatch.images.formats import MALFORMED, Format, identify
from cvbatch.images.pillow_guards import pillow_limit, quiet_pillow


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded image."""

    image: Image.Image
    """RGB, oriented; the first frame or page."""
    width: int
    """Of the oriented original, in pixels."""
    height: int
    """Of the oriented original, in pixels."""
    format: str
    """What the content is, such as `jpeg`; see `cvbatch.images.formats.FORMATS`."""
    exif: ExifFacts | None = None
    """None unless asked for."""


def decode(data: bytes, *, max_pixels: int, exif: bool = False, enough: int | None = None) -> Decoded:
    """Decode one image file; several threads may do so at once.

    Args:
        data: The whole file.
        max_pixels: Images whose header promises more are not decoded.
        exif: Also read capture time, camera and position.
        enough: Shorter side in pixels that suffices. A much larger JPEG is then scaled down while it is decoded, to no
            less than that, which takes a fifth of the time for 12 megapixels.

    Raises:
        ImageError: `EmptyFile`, `UnknownFormat`, `MissingExtra`, `TooManyPixels`, `TruncatedImage`, `CorruptImage`
            or `UnsupportedPixels`.
    """
    if not data:
        raise ImageError("EmptyFile", "expected an image, got a file of 0 bytes")
    kind = identify(data)
    with quiet_pillow:
        image, (width, height) = _pixels(kind, data, max_pixels, enough)
        tags = read_tags(image)
        facts = read_facts(tags) if exif else None
        turn = orientation(tags)
        rgb = to_rgb(image)
    if turn in _TURNS:
        rgb = rgb.transpose(_TURNS[turn])
    if sideways(turn):
        width, height = height, width
    return Decoded(rgb, width, height, kind.name, facts)


_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def to_rgb(image: Image.Image) -> Image.Image:
    """Bring a loaded image of any mode to 8-bit RGB, by the table below.

    Raises:
        ImageError: `UnsupportedPixels`, where no meaning of the numbers as colours is agreed on.
    """
    convert = _TO_RGB.get(image.mode, _refuse)
    if image.has_transparency_data and convert in (_keep, _by_pillow):
        convert = _over_white
    return convert(image)


def _keep(image: Image.Image) -> Image.Image:
    return image


def _by_pillow(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(rgba, mask=rgba)
    return canvas


def _grey16(image: Image.Image) -> Image.Image:
    if image.mode == "I" and getattr(image, "format", None) != "PNG":
        return _refuse(image)
    grey = np.asarray(image).astype(np.uint16)
    # Rounded to the nearest without ever leaving 16 bits.
    quotient, rest = np.divmod(grey, np.uint16(257))
    small = (quotient + (rest > 128)).astype(np.uint8)
    if "transparency" in image.info:
        small[grey == image.info["transparency"]] = 255
    return Image.fromarray(small).convert("RGB")


def _refuse(image: Image.Image) -> Image.Image:
    name = {"F": "floating-point numbers", "I": "32-bit integers"}.get(image.mode, f"mode {image.mode}")
    raise ImageError("UnsupportedPixels", f"expected pixels of 8 bits or 16-bit grey, got {name}")


_TO_RGB: Final[dict[str, Callable[[Image.Image], Image.Image]]] = {
    "RGB": _keep,
    "L": _by_pillow,
    "1": _by_pillow,
    "P": _by_pillow,
    "RGBX": _by_pillow,
    "CMYK": _by_pillow,
    "YCbCr": _by_pillow,
    "LAB": _by_pillow,
    "HSV": _by_pillow,
    "LA": _over_white,
    "PA": _over_white,
    "RGBA": _over_white,
    "RGBa": _over_white,
    "I;16": _grey16,
    "I;16L": _grey16,
    "I;16B": _grey16,
    "I;16N": _grey16,
    "I": _grey16,
}
"""Pillow's mode of a file and what becomes of it; `_keep` and `_by_pillow` go over white where a colour or a
palette entry is transparent. Anything else, floating point above all, is refused."""


_Loaded = tuple[ImageFile.ImageFile, tuple[int, int]]
"""An image and the (width, height) that its header tells."""


def _pixels(kind: Format, data: bytes, max_pixels: int, enough: int | None) -> _Loaded:
    try:
        try:
            return _load(kind, data, max_pixels, enough)
        except Image.DecompressionBombError:
            with pillow_limit(max_pixels):
                return _load(kind, data, max_pixels, enough)
    except Image.DecompressionBombError:
        raise ImageError("TooManyPixels", f"the header promises more than {max_pixels} pixels; {_RAISE}") from None
    except MALFORMED as error:
        cut = kind.lacks_end(data, 0) or "truncated" in str(error).lower()
        raise ImageError(
            "TruncatedImage" if cut else "CorruptImage",
            f"{kind.name} {'stops early' if cut else 'cannot be decoded'}: {error or type(error).__name__}",
        ) from error


def _load(kind: Format, data: bytes, max_pixels: int, enough: int | None) -> _Loaded:
    stream = io.BytesIO(data)
    image = kind.open(stream)
    if image.width * image.height > max_pixels:
        promise = f"{image.width} x {image.height} = {image.width * image.height} pixels"
        raise ImageError("TooManyPixels", f"the header promises {promise}, more than {max_pixels}; {_RAISE}")
    if kind.must_end and kind.lacks_end(data, stream.tell()):
        raise ImageError("TruncatedImage", f"{kind.name} stops early: its end marker is missing")
    size = image.size
    if enough is not None:
        image.draft(image.mode, (enough, enough))  # libjpeg keeps both sides at least as long; others ignore it
    image.load()
    return image, size


_RAISE: Final = "raise source.max_pixels to take it"
