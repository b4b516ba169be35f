"""Identify the image format of some bytes by their content, and choose the Pillow plugin that reads it.

The plugins are imported and called by name. `Image.open` would load all plugins on the first unknown file, and some
plugins start other programs.
"""

from __future__ import annotations

import codecs
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Final, Literal, TypeAlias

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from cvbatch.errors import ImageError

MALFORMED_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""Exceptions that Pillow raises for malformed bytes, without memory errors and pixel limits."""

Opener: TypeAlias = Callable[[IO[bytes]], ImageFile.ImageFile]
TruncationTest: TypeAlias = Callable[[bytes, int], bool]


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """One image format."""

    name: str
    """Value of the column `format`."""
    matches: Callable[[bytes], bool]
    """Whether the bytes start like this format."""
    open: Opener
    """Open a stream and read its header."""
    is_truncated: TruncationTest
    """Whether the end of the file is missing; called with the bytes and the offset where the header ends."""
    needs_end_marker: bool = False
    """Whether Pillow fills in missing pixels without an error, so that the end marker must be checked."""


def identify_format(data: bytes) -> ImageFormat:
    """Find the format of a file.

    Args:
        data: The whole file, not empty.

    Raises:
        ImageError: `UnknownFormat`, with a guess of the content.
    """
    for candidate in FORMATS:
        if candidate.matches(data):
            return candidate
    raise ImageError("UnknownFormat", f"expected an image, got {_describe_unknown_data(data)}")


def _starts_with_any(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(signatures)


def _is_webp(data: bytes) -> bool:
    return data.startswith(b"RIFF") and data[8:12] == b"WEBP"


def _is_bmp(data: bytes) -> bool:
    # Two letters alone would match every text that starts with them.
    return data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in {12, 16, 40, 52, 56, 64, 108, 124}


def _is_avif(data: bytes) -> bool:
    return bool(_read_isobmff_brands(data) & {b"avif", b"avis"})


def _is_heif(data: bytes) -> bool:
    return bool(_read_isobmff_brands(data) & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def _read_isobmff_brands(data: bytes) -> set[bytes]:
    """Read the major and compatible brands of an ISO base media file (ISO/IEC 14496-12, 4.3)."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), 256)
    return {data[8:12], *(data[offset : offset + 4] for offset in range(16, end, 4))}


def _open_avif(stream: IO[bytes]) -> ImageFile.ImageFile:
    try:
        return AvifImagePlugin.AvifImageFile(stream)
    except (SyntaxError, ValueError) as error:
        if "exif" not in str(error).lower():
            raise
    # libavif refuses a file with a broken Exif item. Renamed, the item is ignored.
    # The list of items is in the first box after the brands, well within 1 kB.
    stream.seek(0)
    data = stream.read()
    return AvifImagePlugin.AvifImageFile(io.BytesIO(data[:1024].replace(b"Exif", b"none") + data[1024:]))


def _open_heif(stream: IO[bytes]) -> ImageFile.ImageFile:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError("MissingExtra", "HEIC images need the extra: pip install 'cvbatch[heif]'") from None
    image: ImageFile.ImageFile = HeifImageFile(stream)
    return image


def _lacks_gif_trailer(data: bytes, header_end: int) -> bool:
    return not data.rstrip(b"\0").endswith(b";")


def _never_truncated(data: bytes, header_end: int) -> bool:
    return False


def _lacks_end_marker(marker: bytes) -> TruncationTest:
    # Search from the end, where a complete file has it; and after the header, because a thumbnail has one, too.
    return lambda data, header_end: data.rfind(marker, header_end) < 0


def _is_short_riff(data: bytes, header_end: int) -> bool:
    return int.from_bytes(data[4:8], "little") + 8 > len(data)


def _is_short_tiff(data: bytes, header_end: int) -> bool:
    """Whether the first directory extends past the end (TIFF 6.0, section 2); BigTIFF is not checked."""
    if 43 in data[2:4]:
        return False
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    directory = int.from_bytes(data[4:8], order)
    entries = int.from_bytes(data[directory : directory + 2], order)
    return directory + 2 + 12 * entries + 4 > len(data)


def _has_short_boxes(data: bytes, header_end: int) -> bool:
    offset = 0
    while offset + 8 <= len(data):
        size = int.from_bytes(data[offset : offset + 4], "big")
        if size == 1:
            size = int.from_bytes(data[offset + 8 : offset + 16], "big")
        if size < 8:
            return False
        offset += size
    return offset != len(data)


TIFF_SIGNATURES: Final = (b"II\x2a\0", b"MM\0\x2a", b"II\x2b\0", b"MM\0\x2b")
JPEG_FORMAT: Final = ImageFormat(
    "jpeg",
    _starts_with_any(b"\xff\xd8\xff"),
    JpegImagePlugin.JpegImageFile,
    _lacks_end_marker(b"\xff\xd9"),
    needs_end_marker=True,
)
FORMATS: Final = (
    JPEG_FORMAT,
    ImageFormat(
        "png",
        _starts_with_any(b"\x89PNG\r\n\x1a\n"),
        PngImagePlugin.PngImageFile,
        _lacks_end_marker(b"IEND\xaeB`\x82"),
        needs_end_marker=True,
    ),
    ImageFormat("webp", _is_webp, WebPImagePlugin.WebPImageFile, _is_short_riff),
    ImageFormat("gif", _starts_with_any(b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile, _lacks_gif_trailer),
    ImageFormat(
        "tiff",
        _starts_with_any(*TIFF_SIGNATURES),
        TiffImagePlugin.TiffImageFile,
        _is_short_tiff,
    ),
    ImageFormat("bmp", _is_bmp, BmpImagePlugin.BmpImageFile, _never_truncated),
    ImageFormat("avif", _is_avif, _open_avif, _has_short_boxes),
    ImageFormat("heif", _is_heif, _open_heif, _has_short_boxes),
    ImageFormat(
        "jpeg2000",
        _starts_with_any(b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
        Jpeg2KImagePlugin.Jpeg2KImageFile,
        _has_short_boxes,
    ),
)
"""Supported formats. Of a multi-picture JPEG (MPO), the first picture is read, which is a JPEG."""

_UNSUPPORTED_SIGNATURES: Final = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"8BPS", "a Photoshop document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"Rar!", "a rar archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"RIFF", "a sound or video file"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\0\0\1\0", "an icon"),
)


def _describe_unknown_data(data: bytes) -> str:
    for signature, name in _UNSUPPORTED_SIGNATURES:
        if data.startswith(signature):
            return name
    if data[4:8] == b"ftyp":
        return "a video"
    if not data.strip(b"\0"):
        return f"{len(data)} zero bytes"
    try:
        # Incremental, because the cut may be within a character.
        head = codecs.getincrementaldecoder("utf-8")().decode(data[:200])
    except UnicodeDecodeError:
        head = ""
    if head and all(character.isprintable() or character.isspace() for character in head):
        return f"text that begins with {' '.join(head.split())[:40]!r}"
    return f"{len(data)} bytes that begin with {data[:8].hex(' ')}"
