"""Find the pages of a TIFF in the chain of its directories, by a few reads for each.

Source: TIFF 6.0, section 2; BigTIFF as libtiff writes it; kinds of directories as in `cvbatch.images.tiff.pages`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvbatch.errors import ImageError
from cvbatch.images.byte_ranges import ByteRanges
from cvbatch.images.tiff.directory import TiffTag
from cvbatch.images.tiff.pages import FULL_RESOLUTION_TYPES, OLD_FULL_RESOLUTION_TYPES, RAW_PHOTOMETRICS

TYPE_BYTES: Final = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
"""Bytes of one value of each type."""
INTEGER_DTYPES: Final = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_MAX_TAGS: Final = 4096


@dataclass(frozen=True, slots=True)
class TiffHeader:
    """Byte order and sizes of a TIFF."""

    byte_order: str
    """`<` or `>`, as in NumPy."""
    is_big: bool

    @property
    def offset_bytes(self) -> int:
        """Bytes of an offset, and of a value that is stored in its entry."""
        return 8 if self.is_big else 4

    @property
    def count_bytes(self) -> int:
        """Bytes of the number of entries of a directory."""
        return 8 if self.is_big else 2

    @property
    def entry_bytes(self) -> int:
        """Bytes of an entry."""
        return 20 if self.is_big else 12

    def to_integer(self, data: bytes) -> int:
        """Return an unsigned integer."""
        return int.from_bytes(data, "little" if self.byte_order == "<" else "big")

    def to_bytes(self, value: int, size: int) -> bytes:
        """Return the bytes of an unsigned integer."""
        return value.to_bytes(size, "little" if self.byte_order == "<" else "big")


@dataclass(frozen=True, slots=True)
class TagEntry:
    """One entry of a directory as stored."""

    field_type: int
    count: int
    value: bytes
    """The value, or its offset."""

    @property
    def value_bytes(self) -> int:
        """Bytes of all values; 0 for a type that no version of TIFF has."""
        return self.count * TYPE_BYTES.get(self.field_type, 0)


@dataclass(frozen=True, slots=True)
class ChainedDirectory:
    """One directory of the chain."""

    offset: int
    entries: Mapping[int, TagEntry]
    """By tag, in the order of the file."""
    next_offset: int


def read_tiff_header(file: ByteRanges) -> tuple[TiffHeader, int]:
    """Read the header, and the offset of the first directory.

    Raises:
        ImageError: `TruncatedImage`.
    """
    start = file.read_range(0, 16)
    header = TiffHeader("<" if start.startswith(b"II") else ">", 43 in start[2:4])
    size = header.offset_bytes
    if len(start) < 2 * size:
        raise _truncated_error()
    return header, header.to_integer(start[size : 2 * size])


def iter_directories(file: ByteRanges, header: TiffHeader, offset: int) -> Iterator[ChainedDirectory]:
    """Yield the directories of a chain, each once; a chain that leads back to itself ends.

    Raises:
        ImageError: `TruncatedImage` or `CorruptImage`, after the directories before the damage.
    """
    seen = set[int]()
    while offset and offset not in seen:
        seen.add(offset)
        directory = read_chained_directory(file, header, offset)
        yield directory
        offset = directory.next_offset


def read_chained_directory(file: ByteRanges, header: TiffHeader, offset: int) -> ChainedDirectory:
    """Read one directory; raises the errors of `iter_directories`."""
    size = header.entry_bytes
    count = header.to_integer(_read_exactly(file, offset, header.count_bytes))
    if not 0 < count <= _MAX_TAGS:
        raise ImageError("CorruptImage", f"tiff cannot be decoded: one of its directories has {count} tags")
    table = _read_exactly(file, offset + header.count_bytes, count * size)
    entries: dict[int, TagEntry] = {}
    for start in range(0, len(table), size):
        row = table[start : start + size]
        value = row[-header.offset_bytes :]
        entry = TagEntry(header.to_integer(row[2:4]), header.to_integer(row[4 : -header.offset_bytes]), value)
        entries.setdefault(header.to_integer(row[:2]), entry)
    # a file that ends with its last directory may lack the offset of the next one
    end = file.read_range(offset + header.count_bytes + len(table), header.offset_bytes)
    return ChainedDirectory(offset, entries, header.to_integer(end) if len(end) == header.offset_bytes else 0)


def read_entry(file: ByteRanges, header: TiffHeader, entry: TagEntry) -> bytes:
    """Read the bytes of all values of an entry.

    Raises:
        ImageError: `TruncatedImage`.
    """
    if entry.value_bytes <= header.offset_bytes:
        return entry.value[: entry.value_bytes]
    return _read_exactly(file, header.to_integer(entry.value), entry.value_bytes)


def read_tag_integers(file: ByteRanges, header: TiffHeader, directory: ChainedDirectory, tag: int) -> list[int]:
    """Read all values of an integer tag; empty if it is missing or has another type.

    Raises:
        ImageError: `TruncatedImage`.
    """
    entry = directory.entries.get(tag)
    if entry is None or entry.field_type not in INTEGER_DTYPES:
        return []
    dtype = np.dtype(header.byte_order + INTEGER_DTYPES[entry.field_type])
    return [int(value) for value in np.frombuffer(read_entry(file, header, entry), dtype)]


def is_full_page(file: ByteRanges, header: TiffHeader, directory: ChainedDirectory) -> bool:
    """Whether a directory is a page: not declared a reduced copy or a mask."""
    kinds = read_tag_integers(file, header, directory, TiffTag.NEW_SUBFILE_TYPE)
    if kinds:
        return kinds[0] in FULL_RESOLUTION_TYPES
    old_kinds = read_tag_integers(file, header, directory, TiffTag.SUBFILE_TYPE)
    return not old_kinds or old_kinds[0] in OLD_FULL_RESOLUTION_TYPES


def is_raw_page(file: ByteRanges, header: TiffHeader, directory: ChainedDirectory) -> bool:
    """Whether a directory is part of a raw photo, whose pictures are all of one scene."""
    photometric = read_tag_integers(file, header, directory, TiffTag.PHOTOMETRIC)
    return TiffTag.DNG_VERSION in directory.entries or (bool(photometric) and photometric[0] in RAW_PHOTOMETRICS)


def _read_exactly(file: ByteRanges, start: int, length: int) -> bytes:
    # the size is compared first, so that a hostile length allocates nothing
    data = file.read_range(start, length) if start + length <= file.byte_size() else b""
    if len(data) < length or start < 8:
        raise _truncated_error()
    return data


def _truncated_error() -> ImageError:
    return ImageError("TruncatedImage", "tiff stops early: the description of its pages is incomplete")
