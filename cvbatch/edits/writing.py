"""Writing an edited picture in the format and the quality that it had, with the metadata that may stay."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, Final

from PIL import Image, JpegImagePlugin, PngImagePlugin

from cvbatch.edits.metadata import kept_exif, kept_xmp
from cvbatch.edits.picture import KEPT_FORMATS, Picture
from cvbatch.errors import ImageError
from cvbatch.images.exif import load_exif_tags
from cvbatch.images.formats import identify_format
from cvbatch.images.pillow_guards import quiet_pillow
from cvbatch.images.png_chunks import XMP_KEYWORD

_SUBSAMPLINGS: Final = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
_LOSSLESS_TIFF: Final = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "group3", "group4")
_LOSSY_QUALITY: Final = 90
_JPEG_OF_OTHERS: Final = {"quality": 95, "subsampling": "4:4:4"}


def encode_picture(picture: Picture, *, keep_metadata: bool) -> tuple[bytes, str | None]:
    """Encode a picture.

    Args:
        picture: With edited pixels.
        keep_metadata: Whether Exif and XMP stay; the thumbnail of Exif never does. Orientation and colour profile
            always stay, since a picture without them looks different.

    Returns:
        The file, and what there is to say about its format.

    Raises:
        ImageError: `NotWritable`: the format cannot hold the picture without a loss.
    """
    options = _metadata(picture.image, picture.orientation, keep_metadata=keep_metadata)
    if picture.format not in KEPT_FORMATS:
        return _encode(picture.image, "JPEG", {**_JPEG_OF_OTHERS, **options}), (f"{picture.format} is written as JPEG")
    pillow_format, options_of = _WRITERS[picture.format]
    data = _encode(picture.image, pillow_format, {**options, **options_of(picture)})
    if picture.is_lossless:
        _check_same_pixels(data, picture)
    note = "lossy WebP is encoded again" if picture.format == "webp" and not picture.is_lossless else None
    return data, note


def _metadata(image: Image.Image, orientation: int, *, keep_metadata: bool) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if profile := image.info.get("icc_profile"):
        options["icc_profile"] = profile
    if keep_metadata and (xmp := kept_xmp(image.info.get("xmp"))):
        options["xmp"] = xmp
    exif = kept_exif(load_exif_tags(image) if keep_metadata else None, orientation)
    if exif is not None:
        options["exif"] = exif
    return options


def _encode(image: Image.Image, pillow_format: str, options: Mapping[str, Any]) -> bytes:
    info, file = image.info, io.BytesIO()
    # Pillow would write comments, previews and more of what it has read
    if pillow_format == "PNG" and "xmp" in options:
        options = {**options, "pnginfo": _xmp_chunk(options["xmp"])}
    keeps_transparency = "transparency" in info and pillow_format in ("PNG", "GIF")
    image.info = {"transparency": info["transparency"]} if keeps_transparency else {}
    try:
        with quiet_pillow:
            image.save(file, pillow_format, **options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageError("NotWritable", f"{pillow_format} of mode {image.mode} cannot be written: {error}") from error
    finally:
        image.info = info
    return file.getvalue()


def _xmp_chunk(packet: bytes) -> PngImagePlugin.PngInfo:
    """Pillow writes a packet into other formats by itself."""
    chunk = PngImagePlugin.PngInfo()
    chunk.add_itxt(XMP_KEYWORD.decode(), packet.decode("utf-8", "replace"))
    return chunk


def _jpeg_options(picture: Picture) -> dict[str, Any]:
    """The tables and the subsampling of the original: the quality that it had."""
    image: Any = picture.image
    options: dict[str, Any] = {
        "qtables": image.quantization,
        "progressive": bool(image.info.get("progressive")),
        "optimize": False,
    }
    if image.mode != "L":
        options["subsampling"] = _SUBSAMPLINGS.get(JpegImagePlugin.get_sampling(image), "4:4:4")
    return options


def _tiff_options(picture: Picture) -> dict[str, Any]:
    compression = picture.image.info.get("compression")
    return {"compression": compression if compression in _LOSSLESS_TIFF else "tiff_adobe_deflate"}


def _webp_options(picture: Picture) -> dict[str, Any]:
    return {"lossless": True, "exact": True} if picture.is_lossless else {"quality": _LOSSY_QUALITY}


_WRITERS: Final[Mapping[str, tuple[str, Callable[[Picture], dict[str, Any]]]]] = {
    "jpeg": ("JPEG", _jpeg_options),
    "png": ("PNG", lambda picture: {}),
    "tiff": ("TIFF", _tiff_options),
    "bmp": ("BMP", lambda picture: {}),
    "webp": ("WEBP", _webp_options),
    "gif": ("GIF", lambda picture: {"optimize": False}),
}


def _check_same_pixels(data: bytes, picture: Picture) -> None:
    """Read back what was written: Pillow drops bits of some modes in silence."""
    with quiet_pillow:
        written = identify_format(data).open(io.BytesIO(data))
        written.load()
    mode = "RGB" if picture.image.mode == "P" else picture.image.mode  # GIF may number its colours anew
    same = written.mode == picture.image.mode and written.size == picture.image.size
    same = same and written.convert(mode).tobytes() == picture.image.convert(mode).tobytes()
    if not same:
        raise ImageError(
            "NotWritable", f"{picture.format} of mode {picture.image.mode} cannot be written without a loss"
        )
