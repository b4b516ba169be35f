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
_IEND: Final = b"IEND\xaeB`\x82"
_READ: Final = (b"PLTE", b"IDAT", b"IEND")
_BITS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits a sample may have, by type of colour."""
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS: Final = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
_XMP: Final = b"XML:com.adobe.xmp"
_RAW_EXIF: Final = (b"Raw profile type exif", b"Raw profile type APP1")
"""How ImageMagick stores Exif as text."""
_TEXT_LIMIT: Final = 1 << 20
_PROFILE_LIMIT: Final = 4 << 20


@dataclass(slots=True)
class Chunks:
    """What is read of a PNG file."""

    width: int
    """In pixels."""
    height: int
    """In pixels."""
    bits: int
    """Of a sample: 1, 2, 4, 8 or 16."""
    colour: int
    """`GREY`, `RGB`, `PALETTE`, `GREY_ALPHA` or `RGBA`."""
    interlaced: bool
    palette: bytes | None = None
    """Red, green and blue of each entry."""
    transparency: bytes | None = None
    """Content of tRNS."""
    pixels: list[memoryview] = field(default_factory=list)
    """Parts of the packed samples."""
    exif: bytes | None = None
    xmp: bytes | None = None
    _profile: bytes | None = None

    @property
    def profile(self) -> bytes | None:
        """The ICC profile, unpacked; None if there is none that can be."""
        if self._profile is None:
            return None
        _, _, rest = self._profile.partition(b"\0")
        return _unpacked(rest[1:], _PROFILE_LIMIT)


def read_chunks(data: bytes) -> Chunks:
    """Find what the picture is made of.

    Args:
        data: The whole file.

    Raises:
        ImageError: `TruncatedImage`, `CorruptImage` or `UnsupportedImage`.
    """
    chunks = _chunks(data)
    name, content, good = next(chunks, (b"", memoryview(b""), False))
    if name == b"CgBI":
        raise ImageError("UnsupportedImage", "png is of the kind that Apple's tools make for iPhones (CgBI)")
    if name != b"IHDR" or len(content) != 13 or not good:
        raise _corrupt("its header (IHDR) is damaged")
    found = _header(content)
    before = b""
    for name, content, good in chunks:
        if name[0] & 0x20:
            if good:
                _ancillary(found, name, content)
        elif name not in _READ:
            raise _corrupt(f"chunk {name.decode()} is unknown, and said to be needed")
        elif not good:
            raise _corrupt(f"the checksum of a chunk {name.decode()} is wrong")
        elif name == b"PLTE" and not found.pixels:
            if len(content) % 3 or not 0 < len(content) <= 768:
                raise _corrupt("its palette (PLTE) is damaged")
            found.palette = bytes(content)
        elif name == b"IDAT" and (before == name or not found.pixels):
            found.pixels.append(content)
        before = name
    if not found.pixels:
        raise _corrupt("it has no pixels (IDAT)")
    return found


def _header(content: memoryview) -> Chunks:
    width, height, bits, colour, packing, filtering, interlacing = struct.unpack(">IIBBBBB", content)
    if not (0 < width < 1 << 31 and 0 < height < 1 << 31):
        raise _corrupt(f"its header says {width} x {height} pixels")
    if bits not in _BITS.get(colour, ()) or packing or filtering or interlacing > 1:
        raise _corrupt(f"its header says {bits} bits, colour {colour}, methods {packing}, {filtering}, {interlacing}")
    return Chunks(width, height, bits, colour, bool(interlacing))


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Name and content of each chunk, and whether its checksum is right, which is looked at for those that are read."""
    view, at = memoryview(data), len(SIGNATURE)
    while True:
        if at + 12 > len(data):
            raise ImageError("TruncatedImage", "png stops early: its end marker is missing")
        length, name = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        if not (name.isalpha() and name.isascii()):
            raise _corrupt(f"there is no chunk where one should begin, at byte {at}")
        end = at + 12 + length
        if end > len(data):
            if data.rfind(_IEND, at) >= 0:
                raise _corrupt(f"the length of a chunk {name.decode()} is wrong")
            raise ImageError("TruncatedImage", "png stops early: its end marker is missing")
        content = view[at + 8 : end - 4]
        read = not name[0] & 0x20 or name in _KEPT
        good = read and zlib.crc32(view[at + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
        yield name, content, good
        if name == b"IEND":
            return
        at = end


_KEPT: Final = (b"tRNS", b"eXIf", b"iCCP", b"iTXt", b"tEXt", b"zTXt")


def _ancillary(found: Chunks, name: bytes, content: memoryview) -> None:
    if name == b"tRNS" and not found.pixels and found.transparency is None:
        found.transparency = bytes(content)
    elif name == b"eXIf":
        found.exif = bytes(content)
    elif name == b"iCCP" and len(content) <= _PROFILE_LIMIT:
        found._profile = bytes(content)
    elif name == b"iTXt" and bytes(content[: len(_XMP) + 1]) == _XMP + b"\0":
        found.xmp = _international(bytes(content[len(_XMP) + 1 : _TEXT_LIMIT]))
    elif name in (b"tEXt", b"zTXt") and found.exif is None:
        keyword, _, text = bytes(content[:_TEXT_LIMIT]).partition(b"\0")
        if keyword in _RAW_EXIF:
            found.exif = _from_hex(text if name == b"tEXt" else _unpacked(text[1:], _TEXT_LIMIT) or b"")


def _international(rest: bytes) -> bytes | None:
    """The text of an iTXt chunk after its keyword: two flags, language and translated keyword come before."""
    packed, method = rest[:1] == b"\1", rest[1:2]
    *_, text = rest[2:].split(b"\0", 2)
    return _unpacked(text, _TEXT_LIMIT) if packed and method == b"\0" else text


def _from_hex(text: bytes) -> bytes | None:
    """The block behind the name and the length that ImageMagick writes before it."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return None


def _unpacked(packed: bytes, limit: int) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(packed, limit)
    except zlib.error:
        return None


def _corrupt(what: str) -> ImageError:
    return ImageError("CorruptImage", f"png cannot be decoded: {what}")
