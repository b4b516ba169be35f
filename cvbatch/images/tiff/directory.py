"""Directories of a TIFF: what is said of each picture, and nothing believed that the file has no room for.

Tags and types: TIFF 6.0, sections 2 and 8; BigTIFF as libtiff writes it; SubIFDs by Adobe's technical note 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError

_MOST_DIRECTORIES: Final = 256
_MOST_CHILDREN: Final = 16
_INTEGERS: Final = {
    1: "u1",
    3: "u2",
    4: "u4",
    6: "i1",
    8: "i2",
    9: "i4",
    13: "u4",
    16: "u8",
    17: "i8",
    18: "u8",
}
_FRACTIONS: Final = {5: "u4", 10: "i4"}
_SIZES: Final = {2: 1, 5: 8, 10: 8, 11: 4, 12: 8} | {kind: int(name[1]) for kind, name in _INTEGERS.items()}


class Tag(IntEnum):
    """Tags that decide about the pixels."""

    NEW_SUBFILE_TYPE = 254
    SUBFILE_TYPE = 255
    WIDTH = 256
    HEIGHT = 257
    BITS_PER_SAMPLE = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    MAKE = 271
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES_PER_PIXEL = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTE_COUNTS = 279
    PLANAR = 284
    T4_OPTIONS = 292
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTE_COUNTS = 325
    SUB_DIRECTORIES = 330
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    JPEG_OFFSET = 513
    JPEG_LENGTH = 514
    YCBCR_COEFFICIENTS = 529
    YCBCR_SUBSAMPLING = 530
    REFERENCE_BLACK_WHITE = 532
    XMP = 700
    ICC_PROFILE = 34675
    DNG_VERSION = 50706
    LERC_PARAMETERS = 50674


_TAGS: Final = np.array(list(Tag), np.uint16)


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: int
    count: int
    at: int


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory; its values are read when they are asked for."""

    data: bytes
    """The whole file."""
    order: str
    """`<` or `>`, as NumPy writes it."""
    at: int
    """Where it begins, in bytes."""
    entries: Mapping[int, _Entry]
    following: int
    """Where the next one of the chain begins; 0 if there is none."""

    @property
    def is_big(self) -> bool:
        """Whether the file is a BigTIFF."""
        return _header(self.data)[1]

    def __contains__(self, tag: Tag) -> bool:
        return tag in self.entries

    def numbers(self, tag: Tag) -> tuple[int, ...]:
        """All values of a tag of whole numbers; none if it is missing.

        Raises:
            ImageError: `TruncatedImage`, where the file stops before them; `CorruptImage`, where they are none.
        """
        values = self._values(tag, _INTEGERS)
        return tuple(int(value) for value in values)

    def number(self, tag: Tag, default: int = 0) -> int:
        """The first value of a tag of whole numbers."""
        values = self._values(tag, _INTEGERS)
        return int(values[0]) if len(values) else default

    def fractions(self, tag: Tag) -> tuple[float, ...]:
        """All values of a tag of fractions (or whole numbers); nan for those without a denominator."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _FRACTIONS:
            return tuple(float(value) for value in self.numbers(tag))
        pairs = self._array(entry, _FRACTIONS[entry.kind], entry.count * 2).reshape(-1, 2)
        return tuple(float(top) / float(bottom) if bottom else float("nan") for top, bottom in pairs)

    def raw(self, tag: Tag) -> bytes:
        """The bytes of a tag as they are; none if it is missing."""
        entry = self.entries.get(tag)
        return b"" if entry is None else self._array(entry, "u1", entry.count * _SIZES.get(entry.kind, 1)).tobytes()

    def _values(self, tag: Tag, kinds: Mapping[int, str]) -> npt.NDArray[np.integer]:
        entry = self.entries.get(tag)
        if entry is None:
            return np.empty(0, np.uint8)
        if entry.kind not in kinds:
            raise ImageError("CorruptImage", f"tiff: tag {tag} ({tag.name.lower()}) is not of whole numbers")
        return self._array(entry, kinds[entry.kind], entry.count)

    def _array(self, entry: _Entry, kind: str, count: int) -> npt.NDArray[np.integer]:
        dtype = np.dtype(self.order + kind)
        if entry.at + count * dtype.itemsize > len(self.data):
            raise ImageError("TruncatedImage", "tiff stops early: what is said of the picture is not all there")
        return np.frombuffer(self.data, dtype, count, entry.at)


def first_directory(data: bytes) -> Directory:
    """The directory that the header points at.

    Raises:
        ImageError: `TruncatedImage` or `CorruptImage`.
    """
    order, wide = _header(data)
    size = 8 if wide else 4
    return _directory(data, order, wide, _word(data, order, 8 if wide else 4, size))


def all_directories(first: Directory) -> list[Directory]:
    """The first directory, what is below it, then the next of the chain and so on, each once.

    A broken directory behind the first ends its chain; there are 256 at most.
    """
    found: dict[int, Directory] = {}
    page: Directory | None = first
    while page is not None and page.at not in found and len(found) < _MOST_DIRECTORIES:
        found[page.at] = page
        below = children(page)
        for child in (*below, *(deeper for middle in below for deeper in children(middle))):
            found.setdefault(child.at, child)
        page = _try(page, page.following) if page.following else None
    return list(found.values())


def children(parent: Directory) -> list[Directory]:
    """The directories that a directory names as below it (SubIFDs), 16 at most; broken ones are left out."""
    try:
        places = parent.numbers(Tag.SUB_DIRECTORIES)[:_MOST_CHILDREN]
    except ImageError:
        return []
    return [child for child in (_try(parent, at) for at in places) if child is not None]


def _try(known: Directory, at: int) -> Directory | None:
    try:
        return _directory(known.data, *_header(known.data), at)
    except ImageError:
        return None


def _header(data: bytes) -> tuple[str, bool]:
    return ("<" if data.startswith(b"II") else ">"), 43 in data[2:4]


def _directory(data: bytes, order: str, wide: bool, at: int) -> Directory:
    if at < 8:
        raise ImageError("CorruptImage", "tiff cannot be decoded: it points at no picture")
    count = _word(data, order, at, 8 if wide else 2)
    begin, step, size = (at + 8, 20, 8) if wide else (at + 2, 12, 4)
    end = begin + count * step
    if end > len(data):
        raise ImageError("TruncatedImage", "tiff stops early: the directory of its picture is not all there")
    table = np.frombuffer(data, np.dtype(order + "u2"), count * step // 2, begin).reshape(count, step // 2)
    entries: dict[int, _Entry] = {}
    for row in np.flatnonzero(np.isin(table[:, 0], _TAGS)):
        place = begin + int(row) * step
        kind, values = int(table[row, 1]), _word(data, order, place + 4, size)
        inline = values * _SIZES.get(kind, 1) <= size
        where = place + 4 + size if inline else _word(data, order, place + 4 + size, size)
        entries.setdefault(int(table[row, 0]), _Entry(kind, values, where))
    # a file that ends with its only directory may leave out that no other follows
    following = _word(data, order, end, size) if end != len(data) else 0
    return Directory(data, order, at, entries, following)


def _word(data: bytes, order: str, at: int, size: int) -> int:
    if at + size > len(data):
        raise ImageError("TruncatedImage", "tiff stops early: the directory of its picture is not all there")
    return int.from_bytes(data[at : at + size], "little" if order == "<" else "big")
