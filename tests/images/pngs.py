"""PNG files written by hand, by the format's specification."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def chunk(name: bytes, body: bytes, *, checksum: int | None = None) -> bytes:
    """One chunk, with the right checksum or a given one."""
    right_checksum = zlib.crc32(name + body)
    return (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", right_checksum if checksum is None else checksum)
    )


def packed(samples: npt.NDArray[Any], bits: int, *, interlaced: bool = False) -> bytes:
    """Rows of samples, (height, width, channels), without a filter, before compression."""
    rows = [samples] if not interlaced else [samples[y::step_y, x::step_x] for y, x, step_y, step_x in ADAM7]
    return b"".join(b"\0" + _row(row, bits) for part in rows if part.size for row in part)


def _row(row: npt.NDArray[Any], bits: int) -> bytes:
    if bits == 16:
        return row.astype(">u2").tobytes()
    if bits == 8:
        return row.astype(np.uint8).tobytes()
    flags = (row.reshape(-1, 1) >> np.arange(bits)[::-1]) & 1
    return np.packbits(flags.astype(np.uint8).reshape(-1)).tobytes()


def png(
    samples: npt.NDArray[Any],
    bits: int,
    colour: int,
    *,
    before: Iterable[bytes] = (),
    after: Iterable[bytes] = (),
    interlaced: bool = False,
    parts: int = 1,
) -> bytes:
    """A PNG of samples, (height, width, channels), with chunks before and after those of the pixels."""
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, colour, 0, 0, interlaced)
    data = zlib.compress(packed(samples, bits, interlaced=interlaced))
    step = -(-len(data) // parts)
    pixels = [chunk(b"IDAT", data[start : start + step]) for start in range(0, len(data), step)]
    return SIGNATURE + b"".join([chunk(b"IHDR", header), *before, *pixels, *after, chunk(b"IEND", b"")])
