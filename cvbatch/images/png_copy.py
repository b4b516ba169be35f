"""Copy the packed pixels of a PNG as they are, with other metadata."""

from __future__ import annotations

import zlib
from typing import Final

from cvbatch.images.png_chunks import SIGNATURE, XMP_KEYWORD, iter_png_chunks

_KEPT_CHUNKS: Final = frozenset(
    {
        b"IHDR",
        b"PLTE",
        b"tRNS",
        b"IDAT",
        b"IEND",
        b"gAMA",
        b"cHRM",
        b"sRGB",
        b"iCCP",
        b"sBIT",
        b"cICP",
        b"mDCV",
        b"cLLI",
    }
)
"""Those that decide how a picture looks."""
_CHUNK_FRAME: Final = 12
"""Bytes of length, name and checksum."""
_ANIMATION_CHUNK: Final = b"acTL"
_XMP_HEADER: Final = XMP_KEYWORD + bytes(5)
"""Keyword, no compression, no language, no translated keyword."""


def copy_png(data: bytes, *, exif: bytes | None, xmp: bytes | None) -> bytes | None:
    """Return the file with only the chunks that decide how it looks, and with the given metadata.

    Args:
        data: A file that `read_png_chunks` has read.
        exif: New block that begins like a TIFF; None for none.
        xmp: New packet; None for none.

    Returns:
        None for an animation.
    """
    parts: list[bytes | memoryview] = [SIGNATURE]
    start = len(SIGNATURE)
    for name, content, _ in iter_png_chunks(data):
        end = start + _CHUNK_FRAME + len(content)
        if name == _ANIMATION_CHUNK:
            return None
        if name in _KEPT_CHUNKS:
            parts.append(memoryview(data)[start:end])  # with its checksum: a wrong one must stay wrong
        start = end
        if name == b"IHDR":
            parts += [_to_chunk(b"eXIf", exif)] if exif else []
            parts += [_to_chunk(b"iTXt", _XMP_HEADER + xmp)] if xmp else []
    return b"".join(parts)


def _to_chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")
