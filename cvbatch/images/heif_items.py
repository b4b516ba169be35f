"""Count the pictures of a HEIC from its list of items, so that not every photo of a phone is read to its end.

Source: ISO/IEC 14496-12, 8.11 (meta, iinf, iref); ISO/IEC 23008-12, 6.4 (hidden items, thumbnails, auxiliary images).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cvbatch.images.byte_ranges import ByteRanges

_MAX_META_BYTES: Final = 4 << 20
_MAX_BOXES: Final = 64
_PICTURE_TYPES: Final = frozenset(
    {b"hvc1", b"hev1", b"av01", b"avc1", b"jpeg", b"j2k1", b"grid", b"iden", b"iovl", b"unci"}
)
_LESSER_REFERENCES: Final = (b"thmb", b"auxl")
"""References from a thumbnail, and from an alpha plane or a depth map, to its picture."""


def count_heif_pictures(file: ByteRanges) -> int:
    """Count the items that may be pictures of their own; 0 if the list of items cannot be found."""
    meta = _read_meta_box(file)
    pictures, lesser = set[int](), set[int]()
    for kind, body in _iter_boxes(meta[4:]):
        if kind == b"iinf":
            pictures |= set(_iter_picture_items(body))
        elif kind == b"iref":
            lesser |= set(_iter_lesser_items(body))
    return len(pictures - lesser)


def _read_meta_box(file: ByteRanges) -> bytes:
    position = 0
    for _ in range(_MAX_BOXES):
        head = file.read_range(position, 16)
        size = int.from_bytes(head[:4], "big")
        header_bytes = 8
        if size == 1:
            size, header_bytes = int.from_bytes(head[8:16], "big"), 16
        if head[4:8] == b"meta":
            return file.read_range(
                position + header_bytes, min(size or _MAX_META_BYTES, _MAX_META_BYTES) - header_bytes
            )
        if size < 8:
            break
        position += size
    return b""


def _iter_boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if size < 8:
            return
        yield data[position + 4 : position + 8], data[position + 8 : position + size]
        position += size


def _iter_picture_items(body: bytes) -> Iterator[int]:
    """Numbers of items that are pictures and not hidden, from `iinf`."""
    entries = body[4 + (2 if body[:1] == b"\0" else 4) :]
    for kind, item in _iter_boxes(entries):
        number_bytes = 4 if item[:1] == b"\3" else 2
        type_start = 4 + number_bytes + 2
        is_hidden = len(item) > 3 and bool(item[3] & 1)
        if kind == b"infe" and not is_hidden and item[type_start : type_start + 4] in _PICTURE_TYPES:
            yield int.from_bytes(item[4 : 4 + number_bytes], "big")


def _iter_lesser_items(body: bytes) -> Iterator[int]:
    """Numbers of items that are thumbnails or auxiliary images, from `iref`."""
    number_bytes = 4 if body[:1] == b"\1" else 2
    for kind, reference in _iter_boxes(body[4:]):
        if kind in _LESSER_REFERENCES:
            yield int.from_bytes(reference[:number_bytes], "big")
