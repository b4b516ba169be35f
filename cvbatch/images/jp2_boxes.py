"""Read the metadata beside the picture in a JP2 file: Exif, XMP, colour profile (ISO/IEC 15444-1, annex I)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_EXIF_UUID: Final = b"JpgTiffExif->JP2"
_XMP_UUID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_PICTURE_BOXES: Final = (b"jP  ", b"ftyp", b"jp2h", b"jp2c")
_RESTRICTED_ICC, _ANY_ICC = 2, 3
"""Methods of a colour specification that contain an ICC profile."""


@dataclass(frozen=True, slots=True)
class Jp2Metadata:
    """Metadata blocks as stored in the file; None if missing."""

    exif: bytes | None = None
    xmp: bytes | None = None
    profile: bytes | None = None


def read_jp2_metadata(data: bytes) -> Jp2Metadata:
    """Find the metadata blocks of a JP2 file; a bare codestream has none."""
    blocks: dict[str, bytes] = {}
    for kind, _, start, end in _iter_jp2_boxes(data, 0, len(data)):
        if kind == b"uuid":
            name = {_EXIF_UUID: "exif", _XMP_UUID: "xmp"}.get(data[start : start + 16])
            if name is not None:
                blocks.setdefault(name, data[start + 16 : end])
        if kind == b"jp2h":
            for inner_kind, _, inner_start, inner_end in _iter_jp2_boxes(data, start, end):
                method = data[inner_start : inner_start + 1]
                if inner_kind == b"colr" and method in (bytes([_RESTRICTED_ICC]), bytes([_ANY_ICC])):
                    blocks.setdefault("profile", data[inner_start + 3 : inner_end])
    return Jp2Metadata(**blocks)


def strip_metadata_boxes(data: bytes) -> bytes:
    """Remove the boxes beside the picture: OpenJPEG fails if 1 MB of them comes before it."""
    parts, offset = [], 0
    for kind, box_start, _, end in _iter_jp2_boxes(data, 0, len(data)):
        if kind in _PICTURE_BOXES:
            parts.append(data[box_start:end])
        offset = end
        if kind == b"jp2c":
            break
    return b"".join([*parts, data[offset:]]) if sum(map(len, parts)) < offset else data


def _iter_jp2_boxes(data: bytes, offset: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield (name, start of the box, start of its content, end) of each box."""
    while offset + 8 <= end:
        size, start = int.from_bytes(data[offset : offset + 4], "big"), offset + 8
        if size == 1:
            size, start = int.from_bytes(data[offset + 8 : offset + 16], "big"), offset + 16
        stop = end if size == 0 else offset + size
        if stop < start or stop > end:
            return
        yield data[offset + 4 : offset + 8], offset, start, stop
        offset = stop
