"""Read the directories of a TIFF, which describe its pictures; counts and offsets are checked against the file size.

Source of tags and types: TIFF 6.0, sections 2 and 8; BigTIFF as libtiff writes it; SubIFDs by Adobe's technical note 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError
from cvbatch.images.file_view import FileBytes

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
    """Tags that affect how a picture is read, and where it lies."""

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
    MODEL_PIXEL_SCALE = 33550
    MODEL_TIEPOINT = 33922
    MODEL_TRANSFORMATION = 34264
    ICC_PROFILE = 34675
    GEO_KEYS = 34735
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
    """One directory; the values of its tags are read on demand."""

    data: FileBytes
    """The whole file."""
    byte_order: str
    """`<` or `>`, as in NumPy."""
    offset: int
    """Offset of the directory, in bytes."""
    entries: Mapping[int, _DirectoryEntry]
    next_offset: int
    """Offset of the next directory in the chain; 0 if there is none."""

    @property
    def is_bigtiff(self) -> bool:
        """Whether the file is a BigTIFF."""
        return _parse_tiff_header(self.data)[1]

    def __contains__(self, tag: TiffTag) -> bool:
        return tag in self.entries

    def get_integers(self, tag: TiffTag) -> tuple[int, ...]:
        """Return all values of an integer tag; empty if it is missing.

        Raises:
            ImageError: `TruncatedImage`, if values are past the end of the file; `CorruptImage`, if not integers.
        """
        values = self._read_values(tag, _INTEGER_TYPES)
        return tuple(int(value) for value in values)

    def get_integer(self, tag: TiffTag, default: int = 0) -> int:
        """Return the first value of an integer tag; `default` if it is missing."""
        values = self._read_values(tag, _INTEGER_TYPES)
        return int(values[0]) if len(values) else default

    def get_rationals(self, tag: TiffTag) -> tuple[float, ...]:
        """Return all values of a tag of fractions or integers; nan for a denominator of 0."""
        entry = self.entries.get(tag)
        if entry is None or entry.field_type not in _RATIONAL_TYPES:
            return tuple(float(value) for value in self.get_integers(tag))
        pairs = self._read_array(entry, _RATIONAL_TYPES[entry.field_type], entry.count * 2).reshape(-1, 2)
        return tuple(
            float(numerator) / float(denominator) if denominator else float("nan") for numerator, denominator in pairs
        )

    def get_bytes(self, tag: TiffTag) -> bytes:
        """Return the raw bytes of a tag; empty if it is missing."""
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
            raise ImageError(
                "CorruptImage", f"tiff cannot be decoded: tag {tag} ({tag.name.lower()}) does not contain integers"
            )
        return self._read_array(entry, field_types[entry.field_type], entry.count)

    def _read_array(self, entry: _DirectoryEntry, value_type: str, count: int) -> npt.NDArray[np.integer]:
        dtype = np.dtype(self.byte_order + value_type)
        if entry.value_offset + count * dtype.itemsize > len(self.data):
            raise ImageError("TruncatedImage", "tiff stops early: the description of its picture is incomplete")
        end = entry.value_offset + count * dtype.itemsize
        return np.frombuffer(self.data[entry.value_offset : end], dtype) if count else np.empty(0, dtype)


def read_first_directory(data: FileBytes) -> TiffDirectory:
    """Read the directory that the header points to.

    Raises:
        ImageError: `TruncatedImage` or `CorruptImage`.
    """
    byte_order, is_bigtiff = _parse_tiff_header(data)
    size = 8 if is_bigtiff else 4  # bytes of the offset, which is stored at this same position
    offset = _read_unsigned_integer(data, byte_order, size, size)
    return _read_tiff_directory(data, byte_order, is_bigtiff, offset)


def read_all_directories(first: TiffDirectory) -> list[TiffDirectory]:
    """Read all directories: the first one and its subdirectories, then the next in the chain, and so on, each once.

    A broken directory after the first ends the chain; at most 256 are read.
    """
    directories: dict[int, TiffDirectory] = {}
    page: TiffDirectory | None = first
    while page is not None and page.offset not in directories and len(directories) < _MAX_DIRECTORIES:
        directories[page.offset] = page
        children = read_sub_directories(page)
        grandchildren = [grandchild for child in children for grandchild in read_sub_directories(child)]
        for descendant in (*children, *grandchildren):
            directories.setdefault(descendant.offset, descendant)
        page = _try_read_directory(page, page.next_offset) if page.next_offset else None
    return list(directories.values())


def read_sub_directories(parent: TiffDirectory) -> list[TiffDirectory]:
    """Read the subdirectories (SubIFDs) of a directory, at most 16; broken ones are skipped."""
    try:
        offsets = parent.get_integers(TiffTag.SUB_DIRECTORIES)[:_MAX_SUB_DIRECTORIES]
    except ImageError:
        return []
    return [child for child in (_try_read_directory(parent, offset) for offset in offsets) if child is not None]


def _try_read_directory(directory: TiffDirectory, offset: int) -> TiffDirectory | None:
    try:
        return _read_tiff_directory(directory.data, *_parse_tiff_header(directory.data), offset)
    except ImageError:
        return None


def _parse_tiff_header(data: FileBytes) -> tuple[str, bool]:
    return ("<" if data.startswith(b"II") else ">"), 43 in data[2:4]


def _read_tiff_directory(data: FileBytes, byte_order: str, is_bigtiff: bool, offset: int) -> TiffDirectory:
    if offset < 8:
        raise ImageError("CorruptImage", "tiff cannot be decoded: its header does not point to a picture")
    count = _read_unsigned_integer(data, byte_order, offset, 8 if is_bigtiff else 2)
    start, entry_bytes, size = (offset + 8, 20, 8) if is_bigtiff else (offset + 2, 12, 4)
    end = start + count * entry_bytes
    if end > len(data):
        raise ImageError("TruncatedImage", "tiff stops early: the directory of its picture is incomplete")
    table = np.frombuffer(data[start:end], np.dtype(byte_order + "u2")).reshape(count, entry_bytes // 2)
    entries: dict[int, _DirectoryEntry] = {}
    for row in np.flatnonzero(np.isin(table[:, 0], _TAG_NUMBERS)):
        position = start + int(row) * entry_bytes
        field_type = int(table[row, 1])
        value_count = _read_unsigned_integer(data, byte_order, position + 4, size)
        value_offset = position + 4 + size
        if value_count * _TYPE_BYTES.get(field_type, 1) > size:
            value_offset = _read_unsigned_integer(data, byte_order, value_offset, size)
        entries.setdefault(int(table[row, 0]), _DirectoryEntry(field_type, value_count, value_offset))
    # A file that ends with its last directory may lack the offset of the next one.
    next_offset = _read_unsigned_integer(data, byte_order, end, size) if end != len(data) else 0
    return TiffDirectory(data, byte_order, offset, entries, next_offset)


def _read_unsigned_integer(data: FileBytes, byte_order: str, offset: int, size: int) -> int:
    if offset + size > len(data):
        raise ImageError("TruncatedImage", "tiff stops early: the directory of its picture is incomplete")
    return int.from_bytes(data[offset : offset + size], "little" if byte_order == "<" else "big")
