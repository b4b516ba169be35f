"""Write PNGs without compression: at once, and as the same bytes with every version of every library.

Source: PNG, third edition, 5, 9 and 11; stored blocks by RFC 1951, 3.2.4.
"""

from __future__ import annotations

import zlib
from typing import Final

import numpy as np
from PIL import Image

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES: Final = {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6, "I;16": 0}
_MOST_STORED: Final = 65_535
_EXIF_PREFIX: Final = b"Exif\0\0"


def encode_plain_png(image: Image.Image, exif: bytes = b"") -> bytes:
    """Return a picture as a PNG of the same pixels, with its colour profile.

    Args:
        image: Loaded; `image.info` has the transparency and the profile.
        exif: Exif block to add.
    """
    picture, transparent = _to_plain_mode(image)
    depth = 16 if picture.mode == "I;16" else 8
    pixels = np.asarray(picture)
    stored = pixels.astype(">u2") if depth == 16 else pixels
    rows = stored.reshape(picture.height, -1).view(np.uint8)
    # each row begins with the number of its filter, none
    lines = np.zeros((picture.height, rows.shape[1] + 1), np.uint8)
    lines[:, 1:] = rows
    size = b"".join(side.to_bytes(4, "big") for side in picture.size)
    profile = image.info.get("icc_profile")
    chunks = [_chunk(b"IHDR", size + bytes([depth, _COLOUR_TYPES[picture.mode], 0, 0, 0]))]
    if isinstance(profile, bytes) and profile:
        chunks.append(_chunk(b"iCCP", b"icc\0\0" + _store(profile)))
    if transparent is not None:
        chunks.append(_chunk(b"tRNS", transparent.to_bytes(2, "big")))
    if exif:
        chunks.append(_chunk(b"eXIf", exif.removeprefix(_EXIF_PREFIX)))
    return b"".join((_SIGNATURE, *chunks, _chunk(b"IDAT", _store(lines.tobytes())), _chunk(b"IEND", b"")))


def _to_plain_mode(image: Image.Image) -> tuple[Image.Image, int | None]:
    """The picture in one of the modes of `_COLOUR_TYPES`, and the value of transparent grey of 16 bits."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N"):
        value = image.info.get("transparency")
        return Image.fromarray(np.asarray(image).astype(np.uint16)), value if isinstance(value, int) else None
    if image.mode in ("RGBA", "LA"):
        return image, None
    if image.has_transparency_data:
        return image.convert("RGBA"), None
    if image.mode in ("L", "1"):
        return image.convert("L"), None
    return image.convert("RGB"), None


def _chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(data, zlib.crc32(name)).to_bytes(4, "big")


def _store(data: bytes) -> bytes:
    """A zlib stream of stored blocks."""
    parts = [b"\x78\x01"]
    for start in range(0, max(len(data), 1), _MOST_STORED):
        block = data[start : start + _MOST_STORED]
        is_last = start + _MOST_STORED >= len(data)
        length = len(block).to_bytes(2, "little")
        parts += [bytes([is_last]), length, bytes(255 - byte for byte in length), block]
    return b"".join((*parts, zlib.adler32(data).to_bytes(4, "big")))
