"""Copy one page of a TIFF to a TIFF of its own, without unpacking its pixels.

The copy depends on nothing but the page: it stays the same bytes when other pages are added or moved.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from cvbatch.errors import ImageError
from cvbatch.images.byte_ranges import ByteRanges
from cvbatch.images.tiff.directory import TiffTag
from cvbatch.images.tiff.page_chain import (
    TYPE_BYTES,
    ChainedDirectory,
    TagEntry,
    TiffHeader,
    read_chained_directory,
    read_entry,
    read_tag_integers,
    read_tiff_header,
)

_EXIF_POINTERS: Final = (34665, 34853)
"""Tags that hold the offset of a directory with Exif values, and with those of the position."""
_LEFT_OUT: Final = frozenset({TiffTag.SUB_DIRECTORIES, 519, 520, 521, 37724, 40965})
"""Offsets of other pictures and of tables that nothing reads any more; layers of Photoshop."""
_BLOCK_TAGS: Final = (
    (TiffTag.STRIP_OFFSETS, TiffTag.STRIP_BYTE_COUNTS),
    (TiffTag.TILE_OFFSETS, TiffTag.TILE_BYTE_COUNTS),
    (TiffTag.JPEG_OFFSET, TiffTag.JPEG_LENGTH),
)
_NEAR_BYTES: Final = 4096
"""Blocks with no larger gap between them are read at once."""
_LONG, _LONG8 = 4, 16
_Fields: TypeAlias = dict[int, tuple[int, bytes]]
"""Type and bytes of each value, by tag."""
_YCBCR: Final = 6


class TiffPages:
    """The pages of one TIFF, by their position in the chain of directories; for several threads.

    Args:
        file: The file; only what a page needs is read.

    Raises:
        ImageError: `TruncatedImage`.
    """

    def __init__(self, file: ByteRanges) -> None:
        self._file = file
        self._header, first_offset = read_tiff_header(file)
        self._offsets = [first_offset]
        """Of the directories that are known so far."""
        self._lock = threading.Lock()

    def copy_page(self, number: int) -> bytes:
        """Return a page as a TIFF of its own, with the same tags and packed pixels.

        Args:
            number: From 1 on.

        Raises:
            ImageError: `NoSuchPage`, `TruncatedImage` or `CorruptImage`.
        """
        with self._lock:
            while len(self._offsets) < number and self._offsets[-1]:
                directory = read_chained_directory(self._file, self._header, self._offsets[-1])
                self._offsets.append(directory.next_offset)
        if len(self._offsets) < number or not self._offsets[number - 1]:
            raise ImageError("NoSuchPage", f"the file has no page {number} (any more)")
        directory = read_chained_directory(self._file, self._header, self._offsets[number - 1])
        return _PageCopy(self._file, self._header, directory).to_bytes()


class _PageCopy:
    def __init__(self, file: ByteRanges, header: TiffHeader, directory: ChainedDirectory) -> None:
        self._file, self._header, self._directory = file, header, directory
        # hostile directories can name the same bytes again and again
        self._allowed_bytes = 2 * file.byte_size() + (1 << 16)

    def to_bytes(self) -> bytes:
        blocks = {int(offsets): self._read_spans(offsets, lengths) for offsets, lengths in _BLOCK_TAGS}
        fields: _Fields = {
            tag: (entry.field_type, self._read_value(entry))
            for tag, entry in self._directory.entries.items()
            if tag not in _LEFT_OUT and tag not in blocks and tag not in _EXIF_POINTERS and entry.value_bytes
        }
        nested = {tag: self._read_nested(tag) for tag in _EXIF_POINTERS if tag in self._directory.entries}
        # offsets have the same size wherever they point, so the places of all parts are known before them
        size = self._header.offset_bytes
        fields |= {tag: (self._offset_type, bytes(size)) for tag, values in nested.items() if values}
        fields |= {tag: (self._offset_type, bytes(size * len(spans))) for tag, spans in blocks.items() if spans}
        start = place = 2 * size
        place += len(self._encode_directory(fields, start))
        parts = list[bytes]()
        for tag, values in nested.items():
            if values:
                fields[tag] = self._offset_type, self._header.to_bytes(place, size)
                parts.append(self._encode_directory(values, place))
                place += len(parts[-1])
        places, packed = self._place_blocks(blocks.values(), place)
        for tag, spans in blocks.items():
            if spans:
                offsets = b"".join(self._header.to_bytes(places[span], size) for span in spans)
                fields[tag] = self._offset_type, offsets
        mark = b"II" if self._header.byte_order == "<" else b"MM"
        version = (43, 8, 0) if self._header.is_big else (42,)
        head = mark + b"".join(self._header.to_bytes(number, 2) for number in version)
        return b"".join(
            (head, self._header.to_bytes(start, size), self._encode_directory(fields, start), *parts, *packed)
        )

    @property
    def _offset_type(self) -> int:
        return _LONG8 if self._header.is_big else _LONG

    def _read_value(self, entry: TagEntry) -> bytes:
        self._spend_bytes(entry.value_bytes)
        return read_entry(self._file, self._header, entry)

    def _read_nested(self, tag: int) -> _Fields:
        """Read a directory of Exif values; empty if it is damaged, since it is no part of the picture."""
        try:
            offset = self._header.to_integer(read_entry(self._file, self._header, self._directory.entries[tag]))
            directory = read_chained_directory(self._file, self._header, offset)
            return {
                inner: (entry.field_type, self._read_value(entry))
                for inner, entry in directory.entries.items()
                if inner not in _LEFT_OUT and inner not in _EXIF_POINTERS and entry.value_bytes
            }
        except ImageError:
            return {}

    def _read_spans(self, offsets_tag: int, lengths_tag: int) -> list[tuple[int, int]]:
        """Read (start, length) in bytes of each strip or tile."""
        starts = read_tag_integers(self._file, self._header, self._directory, offsets_tag)
        lengths = read_tag_integers(self._file, self._header, self._directory, lengths_tag)
        end = self._file.byte_size()
        lengths += [end - start for start in starts[len(lengths) :]]
        if offsets_tag == TiffTag.JPEG_OFFSET:
            lengths = [min(length or end, end - start) for start, length in zip(starts, lengths, strict=False)]
        elif plain := self._count_plain_bytes(len(starts)):
            lengths = plain  # without compression lengths are known, and some writers store wrong ones
        spans = list(zip(starts, lengths, strict=False))
        if any(start < 8 or length < 0 or start + length > end for start, length in spans):
            raise ImageError("TruncatedImage", "tiff stops early: some pixels of this page are missing")
        return spans

    def _count_plain_bytes(self, block_count: int) -> list[int]:
        """Bytes of each strip or tile if its pixels are stored as they are; else empty."""

        def first_value(tag: int, default: int) -> int:
            return (read_tag_integers(self._file, self._header, self._directory, tag) or [default])[0]

        if first_value(TiffTag.COMPRESSION, 1) != 1 or first_value(TiffTag.PHOTOMETRIC, 0) == _YCBCR:
            return []
        height = first_value(TiffTag.HEIGHT, 0)
        columns = first_value(TiffTag.TILE_WIDTH, 0) or first_value(TiffTag.WIDTH, 0)
        tile_rows = first_value(TiffTag.TILE_HEIGHT, 0)
        block_rows = tile_rows or min(first_value(TiffTag.ROWS_PER_STRIP, height) or height, height)
        samples = 1 if first_value(TiffTag.PLANAR, 1) == 2 else first_value(TiffTag.SAMPLES_PER_PIXEL, 1)
        if min(height, columns, block_rows, samples) < 1:
            return []
        row_bytes = -(-columns * samples * first_value(TiffTag.BITS_PER_SAMPLE, 1) // 8)
        blocks_down = -(-height // block_rows)
        last_rows = block_rows if tile_rows else height - (blocks_down - 1) * block_rows
        rows = (
            last_rows if not tile_rows and (index + 1) % blocks_down == 0 else block_rows
            for index in range(block_count)
        )
        return [row_bytes * count for count in rows]

    def _place_blocks(
        self, spans: Iterable[Sequence[tuple[int, int]]], start: int
    ) -> tuple[dict[tuple[int, int], int], list[bytes]]:
        """Place of each strip or tile in the copy, and their bytes; the same block is copied once."""
        unique = list(dict.fromkeys(span for group in spans for span in group))
        self._spend_bytes(sum(length for _, length in unique))
        packed = self._read_blocks(unique)
        places = dict[tuple[int, int], int]()
        parts = list[bytes]()
        for span in unique:
            padding = start % 2  # offsets of TIFF are even
            places[span] = start + padding
            parts += [bytes(padding), packed[span]]
            start += padding + len(packed[span])
        return places, parts

    def _read_blocks(self, spans: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        """Read blocks, neighbours by one request."""
        packed, group = dict[tuple[int, int], bytes](), list[tuple[int, int]]()
        for span in [*sorted(spans), (1 << 63, 0)]:
            if group and span[0] > max(start + length for start, length in group[-1:]) + _NEAR_BYTES:
                first = group[0][0]
                joined = self._file.read_range(first, max(start + length for start, length in group) - first)
                packed |= {(start, length): joined[start - first : start - first + length] for start, length in group}
                group = []
            group.append(span)
        if any(len(data) < length for (_, length), data in packed.items()):
            raise ImageError("TruncatedImage", "tiff stops early: some pixels of this page are missing")
        return packed

    def _encode_directory(self, fields: _Fields, start: int) -> bytes:
        """A directory at this offset, with the values that do not fit into it behind it."""
        header, size = self._header, self._header.offset_bytes
        value_start = start + header.count_bytes + header.entry_bytes * len(fields) + size
        entries, values = [header.to_bytes(len(fields), header.count_bytes)], list[bytes]()
        for tag in sorted(fields):
            field_type, value = fields[tag]
            count = len(value) // TYPE_BYTES[field_type]
            entries += [header.to_bytes(tag, 2), header.to_bytes(field_type, 2), header.to_bytes(count, size)]
            if len(value) <= size:
                entries.append(value.ljust(size, b"\0"))
                continue
            entries.append(header.to_bytes(value_start, size))
            values.append(value + bytes(len(value) % 2))
            value_start += len(values[-1])
        return b"".join((*entries, bytes(size), *values))

    def _spend_bytes(self, count: int) -> None:
        self._allowed_bytes -= count
        if self._allowed_bytes < 0:
            raise ImageError("CorruptImage", "tiff cannot be decoded: a page has more bytes than the file")
