"""Read the chunks of a PNG file in one pass; chunks that are not needed are not unpacked.

As in libpng, a wrong checksum of a critical chunk is fatal, and an ancillary chunk with a wrong checksum is ignored.
Source of the chunks: Portable Network Graphics (Third Edition), W3C 2025.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from cvbatch.errors import ImageError

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_IEND_CHUNK: Final = b"IEND\xaeB`\x82"
_CRITICAL_CHUNKS: Final = (b"PLTE", b"IDAT", b"IEND")
_ALLOWED_BIT_DEPTHS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Allowed bits per sample, by colour type."""
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNEL_COUNTS: Final = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
XMP_KEYWORD: Final = b"XML:com.adobe.xmp"
_RAW_EXIF_KEYWORDS: Final = (b"Raw profile type exif", b"Raw profile type APP1")
"""Keywords with which ImageMagick stores Exif as text."""
_MAX_TEXT_BYTES: Final = 1 << 20
_MAX_PROFILE_BYTES: Final = 4 << 20


@dataclass(slots=True)
class PngChunks:
    """Header and content of the chunks that are read from a PNG file."""

    width: int
    """In pixels."""
    height: int
    """In pixels."""
    bit_depth: int
    """Bits per sample: 1, 2, 4, 8 or 16."""
    colour_type: int
    """`GREY`, `RGB`, `PALETTE`, `GREY_ALPHA` or `RGBA`."""
    is_interlaced: bool
    palette: bytes | None = None
    """Red, green and blue of each entry."""
    transparency: bytes | None = None
    """Content of the tRNS chunk."""
    image_data: list[memoryview] = field(default_factory=list)
    """Content of the IDAT chunks: parts of the packed samples."""
    exif: bytes | None = None
    xmp: bytes | None = None
    _compressed_profile: bytes | None = None

    @property
    def icc_profile(self) -> bytes | None:
        """The unpacked ICC profile; None if there is none, or it cannot be unpacked."""
        if self._compressed_profile is None:
            return None
        _, _, method_and_profile = self._compressed_profile.partition(b"\0")
        return _inflate_limited(method_and_profile[1:], _MAX_PROFILE_BYTES)


def read_png_chunks(data: bytes) -> PngChunks:
    """Read the chunks that the picture and its metadata need.

    Args:
        data: The whole file.

    Raises:
        ImageError: `TruncatedImage`, `CorruptImage` or `UnsupportedImage`.
    """
    chunk_iterator = iter_png_chunks(data)
    name, content, is_valid = next(chunk_iterator, (b"", memoryview(b""), False))
    if name == b"CgBI":
        raise ImageError(
            "UnsupportedImage", "cannot read a PNG in Apple's format for iPhones (CgBI); save it as a usual PNG"
        )
    if name != b"IHDR" or len(content) != 13 or not is_valid:
        raise _corrupt_png_error("its header (IHDR) is damaged")
    chunks = _parse_png_header(content)
    previous_name = b""
    for name, content, is_valid in chunk_iterator:
        if name[0] & 0x20:
            if is_valid:
                _read_ancillary_chunk(chunks, name, content)
        elif name not in _CRITICAL_CHUNKS:
            raise _corrupt_png_error(f"chunk {name.decode()} is unknown, but marked as critical")
        elif not is_valid:
            raise _corrupt_png_error(f"the checksum of a {name.decode()} chunk is wrong")
        elif name == b"PLTE" and not chunks.image_data:
            if len(content) % 3 or not 0 < len(content) <= 768:
                raise _corrupt_png_error("its palette (PLTE) is damaged")
            chunks.palette = bytes(content)
        elif name == b"IDAT" and (previous_name == name or not chunks.image_data):
            chunks.image_data.append(content)
        previous_name = name
    if not chunks.image_data:
        raise _corrupt_png_error("it has no pixels (IDAT)")
    return chunks


def _parse_png_header(content: memoryview) -> PngChunks:
    width, height, bits, colour_type, compression, filtering, interlacing = struct.unpack(">IIBBBBB", content)
    if not (0 < width < 1 << 31 and 0 < height < 1 << 31):
        raise _corrupt_png_error(f"its header says {width} x {height} pixels")
    if bits not in _ALLOWED_BIT_DEPTHS.get(colour_type, ()) or compression or filtering or interlacing > 1:
        raise _corrupt_png_error(
            f"its header says {bits} bits, colour type {colour_type}, methods {compression}, {filtering}, {interlacing}"
        )
    return PngChunks(width, height, bits, colour_type, bool(interlacing))


def iter_png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Yield (name, content, whether the checksum is valid) of each chunk; False for chunks that are not read."""
    view, start = memoryview(data), len(SIGNATURE)
    while True:
        if start + 12 > len(data):
            raise ImageError("TruncatedImage", "png stops early: its end marker is missing")
        length, name = int.from_bytes(view[start : start + 4], "big"), bytes(view[start + 4 : start + 8])
        if not (name.isalpha() and name.isascii()):
            raise _corrupt_png_error(f"expected a chunk at byte {start}, found none")
        end = start + 12 + length
        if end > len(data):
            if data.rfind(_IEND_CHUNK, start) >= 0:
                raise _corrupt_png_error(f"the length of a {name.decode()} chunk is wrong")
            raise ImageError("TruncatedImage", "png stops early: its end marker is missing")
        content = view[start + 8 : end - 4]
        is_read = not name[0] & 0x20 or name in _ANCILLARY_CHUNKS
        is_valid = is_read and zlib.crc32(view[start + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
        yield name, content, is_valid
        if name == b"IEND":
            return
        start = end


_ANCILLARY_CHUNKS: Final = (b"tRNS", b"eXIf", b"iCCP", b"iTXt", b"tEXt", b"zTXt")


def _read_ancillary_chunk(chunks: PngChunks, name: bytes, content: memoryview) -> None:
    if name == b"tRNS" and not chunks.image_data and chunks.transparency is None:
        chunks.transparency = bytes(content)
    elif name == b"eXIf":
        chunks.exif = bytes(content)
    elif name == b"iCCP" and len(content) <= _MAX_PROFILE_BYTES:
        chunks._compressed_profile = bytes(content)
    elif name == b"iTXt" and bytes(content[: len(XMP_KEYWORD) + 1]) == XMP_KEYWORD + b"\0":
        chunks.xmp = _parse_international_text(bytes(content[len(XMP_KEYWORD) + 1 : _MAX_TEXT_BYTES]))
    elif name in (b"tEXt", b"zTXt") and chunks.exif is None:
        keyword, _, text = bytes(content[:_MAX_TEXT_BYTES]).partition(b"\0")
        if keyword in _RAW_EXIF_KEYWORDS:
            chunks.exif = _decode_hex_exif(
                text if name == b"tEXt" else _inflate_limited(text[1:], _MAX_TEXT_BYTES) or b""
            )


def _parse_international_text(content: bytes) -> bytes | None:
    """Return the text of an iTXt chunk without its keyword; two flags, language and translated keyword precede it."""
    is_compressed, method = content[:1] == b"\1", content[1:2]
    *_, text = content[2:].split(b"\0", 2)
    return _inflate_limited(text, _MAX_TEXT_BYTES) if is_compressed and method == b"\0" else text


def _decode_hex_exif(text: bytes) -> bytes | None:
    """Decode the Exif block after the name and the length that ImageMagick writes."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return None


def _inflate_limited(packed: bytes, limit: int) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(packed, limit)
    except zlib.error:
        return None


def _corrupt_png_error(reason: str) -> ImageError:
    return ImageError("CorruptImage", f"png cannot be decoded: {reason}")
