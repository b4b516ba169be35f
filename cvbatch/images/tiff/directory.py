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

_MAX_DIRECTORIES: Final = 256
_MAX_SUB_DIRECTORIES: Final = 16
_INTEGER_TYPES: Final = {
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
_RATIONAL_TYPES: Final = {5: "u4", 10: "i4"}
_TYPE_BYTES: Final = {2: 1, 5: 8, 10: 8, 11: 4, 12: 8} | {kind: int(name[1]) for kind, name in _INTEGER_TYPES.items()}


class TiffTag(IntEnum):
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


_TAG_NUMBERS: Final = np.array(list(TiffTag), np.uint16)


@dataclass(frozen=True, slots=True)
class _DirectoryEntry:
    field_type: int
    count: int
    value_offset: int


@dataclass(frozen=True, slots=True)
class TiffDirectory:
    """One directory; its values are read when they are asked for."""

    data: bytes
    """The whole file."""
    byte_order: str
    """`<` or `>`, as NumPy writes it."""
    offset: int
    """Where it begins, in bytes."""
    entries: Mapping[int, _DirectoryEntry]
    next_offset: int
    """Where the next one of the chain begins; 0 if there is none."""

    @property
    def is_bigtiff(self) -> bool:
        """Whether the file is a BigTIFF."""
        return _parse_tiff_header(self.data)[1]

    def __contains__(self, tag: TiffTag) -> bool:
        return tag in self.entries

    def get_integers(self, tag: TiffTag) -> tuple[int, ...]:
        """All values of a tag of whole numbers; none if it is missing.

        Raises:
            ImageError: `TruncatedImage`, where the file stops before them; `CorruptImage`, where they are none.
        """
        values = self._read_values(tag, _INTEGER_TYPES)
        return tuple(int(value) for value in values)

    def get_integer(self, tag: TiffTag, default: int = 0) -> int:
        """The first value of a tag of whole numbers."""
        values = self._read_values(tag, _INTEGER_TYPES)
        return int(values[0]) if len(values) else default

    def get_rationals(self, tag: TiffTag) -> tuple[float, ...]:
        """All values of a tag of fractions (or whole numbers); nan for those without a denominator."""
        entry = self.entries.get(tag)
        if entry is None or entry.field_type not in _RATIONAL_TYPES:
            return tuple(float(value) for value in self.get_integers(tag))
        pairs = self._read_array(entry, _RATIONAL_TYPES[entry.field_type], entry.count * 2).reshape(-1, 2)
        return tuple(float(top) / float(bottom) if bottom else float("nan") for top, bottom in pairs)

    def get_bytes(self, tag: TiffTag) -> bytes:
        """The bytes of a tag as they are; none if it is missing."""
        entry = self.entries.get(tag)
        return (
            b""
            if entry is None
            else self._read_array(entry, "u1", entry.count * _TYPE_BYTES.get(entry.field_type, 1)).tobytes()
        )

    def _read_values(self, tag: TiffTag, field_types: Mapping[int, str]) -> npt.NDArray[np.integer]:
        entry = self.entries.get(tag)
        if entry is None:
            return np.empty(0, np.uint8)
        if entry.field_type not in field_types:
            raise ImageError("CorruptImage", f"tiff: tag {tag} ({tag.name.lower()}) is not of whole numbers")
        return self._read_array(entry, field_types[entry.field_type], entry.count)

    def _read_array(self, entry: _DirectoryEntry, value_type: str, count: int) -> npt.NDArray[np.integer]:
        dtype = np.dtype(self.byte_order + value_type)
        if entry.value_offset + count * dtype.itemsize > len(self.data):
            raise ImageError("TruncatedImage", "tiff stops early: what is said of the picture is not all there")
        return np.frombuffer(self.data, dtype, count, entry.value_offset)


def read_first_directory(data: bytes) -> TiffDirectory:
    """The directory that the header points at.

    Raises:
        ImageError: `TruncatedImage` or `CorruptImage`.
    """
    order, wide = _parse_tiff_header(data)
    size = 8 if wide else 4
    return _read_tiff_directory(data, order, wide, _read_unsigned_integer(data, order, 8 if wide else 4, size))


def read_all_directories(first: TiffDirectory) -> list[TiffDirectory]:
    """The first directory, what is below it, then the next of the chain and so on, each once.

    A broken directory behind the first ends its chain; there are 256 at most.
    """
    found: dict[int, TiffDirectory] = {}
    page: TiffDirectory | None = first
    while page is not None and page.offset not in found and len(found) < _MAX_DIRECTORIES:
        found[page.offset] = page
        below = read_sub_directories(page)
        for child in (*below, *(deeper for middle in below for deeper in read_sub_directories(middle))):
            found.setdefault(child.offset, child)
        page = _try_read_directory(page, page.next_offset) if page.next_offset else None
    return list(found.values())


def read_sub_directories(parent: TiffDirectory) -> list[TiffDirectory]:
    """The directories that a directory names as below it (SubIFDs), 16 at most; broken ones are left out."""
    try:
        places = parent.get_integers(TiffTag.SUB_DIRECTORIES)[:_MAX_SUB_DIRECTORIES]
    except ImageError:
        return []
    return [child for child in (_try_read_directory(parent, at) for at in places) if child is not None]


def _try_read_directory(directory: TiffDirectory, offset: int) -> TiffDirectory | None:
    try:
        return _read_tiff_directory(directory.data, *_parse_tiff_header(directory.data), offset)
    except ImageError:
        return None


def _parse_tiff_header(data: bytes) -> tuple[str, bool]:
    return ("<" if data.startswith(b"II") else ">"), 43 in data[2:4]


def _read_tiff_directory(data: bytes, byte_order: str, is_bigtiff: bool, offset: int) -> TiffDirectory:
    if offset < 8:
        raise ImageError("CorruptImage", "tiff cannot be decoded: it points at no picture")
    count = _read_unsigned_integer(data, byte_order, offset, 8 if is_bigtiff else 2)
    begin, step, size = (offset + 8, 20, 8) if is_bigtiff else (offset + 2, 12, 4)
    end = begin + count * step
    if end > len(data):
        raise ImageError("TruncatedImage", "tiff stops early: the directory of its picture is not all there")
    table = np.frombuffer(data, np.dtype(byte_order + "u2"), count * step // 2, begin).reshape(count, step // 2)
    entries: dict[int, _DirectoryEntry] = {}
    for row in np.flatnonzero(np.isin(table[:, 0], _TAG_NUMBERS)):
        place = begin + int(row) * step
        kind, values = int(table[row, 1]), _read_unsigned_integer(data, byte_order, place + 4, size)
        inline = values * _TYPE_BYTES.get(kind, 1) <= size
        where = place + 4 + size if inline else _read_unsigned_integer(data, byte_order, place + 4 + size, size)
        entries.setdefault(int(table[row, 0]), _DirectoryEntry(kind, values, where))
    # a file that ends with its only directory may leave out that no other follows
    following = _read_unsigned_integer(data, byte_order, end, size) if end != len(data) else 0
    return TiffDirectory(data, byte_order, offset, entries, following)


def _read_unsigned_integer(data: bytes, byte_order: str, offset: int, size: int) -> int:
    if offset + size > len(data):
        raise ImageError("TruncatedImage", "tiff stops early: the directory of its picture is not all there")
    return int.from_bytes(data[offset : offset + size], "little" if byte_order == "<" else "big")
