"""A TIFF writer by the specification, which shares no code with the reader."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]
PACKERS: Mapping[int, Callable[[bytes], bytes]] = {
    1: bytes,
    5: lambda plain: bytes(imagecodecs.lzw_encode(plain)),
    8: zlib.compress,
    32946: zlib.compress,
    32773: lambda plain: bytes(imagecodecs.packbits_encode(plain)),
    34925: lambda plain: bytes(imagecodecs.lzma_encode(plain)),
    50000: lambda plain: bytes(imagecodecs.zstd_encode(plain)),
}
_FORMATS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 7: "s", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True)
class Tagged:
    """A value with an explicit field type."""

    kind: int
    values: Sequence[int] | bytes


@dataclass(frozen=True)
class Page:
    """One directory with its picture."""

    tags: Mapping[int, Any]
    parts: Sequence[bytes] = ()
    tiled: bool = False
    below: Sequence[Page] = field(default=())
    is_jpeg: bool = False
    """Whether its only part is a JPEG file, stored with the tags that cameras use."""


def tiff(*pages: Page, order: str = "<", big: bool = False, mark: bytes = b"") -> bytes:
    """A file with pages; `mark` is written between its header and them."""
    return _File(order, big).write(pages, mark)


def page(
    numbers: Numbers,
    *,
    bits: int = 8,
    photometric: int = 1,
    planar: int = 1,
    extra: Sequence[int] | None = None,
    tile: tuple[int, int] | None = None,
    rows: int | None = None,
    compression: int = 1,
    predictor: int = 1,
    fill: int = 1,
    order: str = "<",
    tags: Mapping[int, Any] | None = None,
    below: Sequence[Page] = (),
    pack: Callable[[Numbers], bytes] | None = None,
) -> Page:
    """A page of (height, width, samples) numbers; `pack` compresses the numbers of one part."""
    numbers = numbers if numbers.ndim == 3 else numbers[..., None]
    height, width, samples = numbers.shape
    down, across = tile or (rows or height, width)
    planes = [numbers] if planar == 1 else [numbers[..., sample : sample + 1] for sample in range(samples)]
    parts = []
    for plane in planes:
        for top in range(0, height, down):
            for left in range(0, width, across):
                part = plane[top : top + down, left : left + across]
                if tile:
                    part = np.pad(part, [(0, down - part.shape[0]), (0, across - part.shape[1]), (0, 0)])
                if pack is None:
                    part = _differences(part, bits) if predictor == 2 else part
                    plain = PACKERS[compression](_bits(part, bits, order))
                else:
                    plain = pack(part)
                parts.append(plain if fill == 1 else _reversed(plain))
    standard_tags = {256: width, 257: height, 258: [bits] * samples, 259: compression, 262: photometric, 277: samples}
    standard_tags |= {284: planar} | ({322: across, 323: down} if tile else {278: down})
    standard_tags |= {338: list(extra)} if extra is not None else {}
    standard_tags |= {317: predictor} if predictor != 1 else {}
    standard_tags |= {266: fill} if fill != 1 else {}
    return Page({**standard_tags, **(tags or {})}, parts, tile is not None, below)


def _differences(part: Numbers, bits: int) -> Numbers:
    wide = part.astype(np.int64)
    wide[:, 1:] -= part[:, :-1].astype(np.int64)
    result: Numbers = wide & ((1 << bits) - 1)
    return result


def _bits(part: Numbers, bits: int, order: str) -> bytes:
    if bits % 8 == 0:
        return part.astype(f"{order}u{bits // 8}").tobytes()
    shifts = np.arange(bits - 1, -1, -1)
    lines = (part.reshape(part.shape[0], -1, 1).astype(np.int64) >> shifts) & 1
    return np.packbits(lines.reshape(part.shape[0], -1).astype(np.uint8), axis=1).tobytes()


def _reversed(plain: bytes) -> bytes:
    return np.packbits(np.unpackbits(np.frombuffer(plain, np.uint8)), bitorder="little").tobytes()


class _File:
    def __init__(self, order: str, big: bool) -> None:
        self._order, self._big = order, big
        self._word, self._size = ("Q", 8) if big else ("I", 4)
        self._data = bytearray()

    def write(self, pages: Sequence[Page], mark: bytes) -> bytes:
        letters = b"II" if self._order == "<" else b"MM"
        head = struct.pack(self._order + "HHH", 43, 8, 0) if self._big else struct.pack(self._order + "H", 42)
        self._data += letters + head + bytes(self._size)
        link = len(self._data) - self._size
        self._data += mark
        for directory in pages:
            offset, next_link = self._page(directory)
            struct.pack_into(self._order + self._word, self._data, link, offset)
            link = next_link
        return bytes(self._data)

    def _page(self, directory: Page) -> tuple[int, int]:
        tags = dict(directory.tags)
        if directory.below:
            tags[330] = Tagged(18 if self._big else 13, [self._page(child)[0] for child in directory.below])
        if directory.parts:
            part_offsets = [self._append(part) for part in directory.parts]
            offsets, lengths = (324, 325) if directory.tiled else (273, 279)
            offsets, lengths = (513, 514) if directory.is_jpeg else (offsets, lengths)
            wide = 16 if self._big else 4
            tags.setdefault(offsets, Tagged(wide, part_offsets))
            tags.setdefault(lengths, Tagged(wide, [len(part) for part in directory.parts]))
        entries = [self._entry(tag, value) for tag, value in sorted(tags.items()) if value is not None]
        count = struct.pack(self._order + ("Q" if self._big else "H"), len(entries))
        offset = self._append(count + b"".join(entries) + bytes(self._size))
        return offset, len(self._data) - self._size

    def _append(self, plain: bytes) -> int:
        self._data += bytes(-len(self._data) % 8)
        self._data += plain
        return len(self._data) - len(plain)

    def _entry(self, tag: int, value: Any) -> bytes:
        kind, values = self._typed(value)
        packed = values if isinstance(values, bytes) else b"".join(self._pack(kind, item) for item in values)
        count = len(values)
        stored = (
            packed.ljust(self._size, b"\0")
            if len(packed) <= self._size
            else struct.pack(self._order + self._word, self._append(packed))
        )
        return struct.pack(self._order + "HH" + self._word, tag, kind, count) + stored

    def _pack(self, kind: int, value: Any) -> bytes:
        return struct.pack(self._order + _FORMATS[kind], *(value if kind == 5 else (value,)))

    @staticmethod
    def _typed(value: Any) -> tuple[int, Any]:
        if isinstance(value, Tagged):
            return value.kind, value.values
        if isinstance(value, bytes):
            return 7, value
        values = list(value) if isinstance(value, list | tuple) else [value]
        if isinstance(values[0], tuple):
            return 5, values
        return (3 if max(values) < 65536 else 4), values
