"""The chunks of a PNG file in one pass: what the picture needs, and nothing unpacked that nobody reads.

Errors are those of libpng: a wrong checksum of a critical chunk is fatal, of an ancillary one makes that chunk void.
Chunks and their meaning: Portable Network Graphics (Third Edition), W3C 2025.
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
"""Bits a sample may have, by type of colour."""
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNEL_COUNTS: Final = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
_XMP_KEYWORD: Final = b"XML:com.adobe.xmp"
_RAW_EXIF_KEYWORDS: Final = (b"Raw profile type exif", b"Raw profile type APP1")
"""How ImageMagick stores Exif as text."""
_MAX_TEXT_BYTES: Final = 1 << 20
_MAX_PROFILE_BYTES: Final = 4 << 20


@dataclass(slots=True)
class PngChunks:
    """What is read of a PNG file."""

    width: int
    """In pixels."""
    height: int
    """In pixels."""
    bit_depth: int
    """Of a sample: 1, 2, 4, 8 or 16."""
    colour_type: int
    """`GREY`, `RGB`, `PALETTE`, `GREY_ALPHA` or `RGBA`."""
    is_interlaced: bool
    palette: bytes | None = None
    """Red, green and blue of each entry."""
    transparency: bytes | None = None
    """Content of tRNS."""
    image_data: list[memoryview] = field(default_factory=list)
    """Parts of the packed samples."""
    exif: bytes | None = None
    xmp: bytes | None = None
    _compressed_profile: bytes | None = None

    @property
    def icc_profile(self) -> bytes | None:
        """The ICC profile, unpacked; None if there is none that can be."""
        if self._compressed_profile is None:
            return None
        _, _, rest = self._compressed_profile.partition(b"\0")
        return _inflate_limited(rest[1:], _MAX_PROFILE_BYTES)


def read_png_chunks(data: bytes) -> PngChunks:
    """Find what the picture is made of.

    Args:
        data: The whole file.

    Raises:
        ImageError: `TruncatedImage`, `CorruptImage` or `UnsupportedImage`.
    """
    chunks = _iter_png_chunks(data)
    name, content, good = next(chunks, (b"", memoryview(b""), False))
    if name == b"CgBI":
        raise ImageError("UnsupportedImage", "png is of the kind that Apple's tools make for iPhones (CgBI)")
    if name != b"IHDR" or len(content) != 13 or not good:
        raise _corrupt_png_error("its header (IHDR) is damaged")
    found = _parse_png_header(content)
    before = b""
    for name, content, good in chunks:
        if name[0] & 0x20:
            if good:
                _read_ancillary_chunk(found, name, content)
        elif name not in _CRITICAL_CHUNKS:
            raise _corrupt_png_error(f"chunk {name.decode()} is unknown, and said to be needed")
        elif not good:
            raise _corrupt_png_error(f"the checksum of a chunk {name.decode()} is wrong")
        elif name == b"PLTE" and not found.image_data:
            if len(content) % 3 or not 0 < len(content) <= 768:
                raise _corrupt_png_error("its palette (PLTE) is damaged")
            found.palette = bytes(content)
        elif name == b"IDAT" and (before == name or not found.image_data):
            found.image_data.append(content)
        before = name
    if not found.image_data:
        raise _corrupt_png_error("it has no pixels (IDAT)")
    return found


def _parse_png_header(content: memoryview) -> PngChunks:
    width, height, bits, colour, packing, filtering, interlacing = struct.unpack(">IIBBBBB", content)
    if not (0 < width < 1 << 31 and 0 < height < 1 << 31):
        raise _corrupt_png_error(f"its header says {width} x {height} pixels")
    if bits not in _ALLOWED_BIT_DEPTHS.get(colour, ()) or packing or filtering or interlacing > 1:
        raise _corrupt_png_error(
            f"its header says {bits} bits, colour {colour}, methods {packing}, {filtering}, {interlacing}"
        )
    return PngChunks(width, height, bits, colour, bool(interlacing))


def _iter_png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Name and content of each chunk, and whether its checksum is right, which is looked at for those that are read."""
    view, at = memoryview(data), len(SIGNATURE)
    while True:
        if at + 12 > len(data):
            raise ImageError("TruncatedImage", "png stops early: its end marker is missing")
        length, name = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        if not (name.isalpha() and name.isascii()):
            raise _corrupt_png_error(f"there is no chunk where one should begin, at byte {at}")
        end = at + 12 + length
        if end > len(data):
            if data.rfind(_IEND_CHUNK, at) >= 0:
                raise _corrupt_png_error(f"the length of a chunk {name.decode()} is wrong")
            raise ImageError("TruncatedImage", "png stops early: its end marker is missing")
        content = view[at + 8 : end - 4]
        read = not name[0] & 0x20 or name in _ANCILLARY_CHUNKS
        good = read and zlib.crc32(view[at + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
        yield name, content, good
        if name == b"IEND":
            return
        at = end


_ANCILLARY_CHUNKS: Final = (b"tRNS", b"eXIf", b"iCCP", b"iTXt", b"tEXt", b"zTXt")


def _read_ancillary_chunk(chunks: PngChunks, name: bytes, content: memoryview) -> None:
    if name == b"tRNS" and not chunks.image_data and chunks.transparency is None:
        chunks.transparency = bytes(content)
    elif name == b"eXIf":
        chunks.exif = bytes(content)
    elif name == b"iCCP" and len(content) <= _MAX_PROFILE_BYTES:
        chunks._compressed_profile = bytes(content)
    elif name == b"iTXt" and bytes(content[: len(_XMP_KEYWORD) + 1]) == _XMP_KEYWORD + b"\0":
        chunks.xmp = _parse_international_text(bytes(content[len(_XMP_KEYWORD) + 1 : _MAX_TEXT_BYTES]))
    elif name in (b"tEXt", b"zTXt") and chunks.exif is None:
        keyword, _, text = bytes(content[:_MAX_TEXT_BYTES]).partition(b"\0")
        if keyword in _RAW_EXIF_KEYWORDS:
            chunks.exif = _decode_hex_exif(
                text if name == b"tEXt" else _inflate_limited(text[1:], _MAX_TEXT_BYTES) or b""
            )


def _parse_international_text(rest: bytes) -> bytes | None:
    """The text of an iTXt chunk after its keyword: two flags, language and translated keyword come before."""
    packed, method = rest[:1] == b"\1", rest[1:2]
    *_, text = rest[2:].split(b"\0", 2)
    return _inflate_limited(text, _MAX_TEXT_BYTES) if packed and method == b"\0" else text


def _decode_hex_exif(text: bytes) -> bytes | None:
    """The block behind the name and the length that ImageMagick writes before it."""
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
