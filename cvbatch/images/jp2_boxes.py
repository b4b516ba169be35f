"""What lies beside the picture in a JP2 file: Exif, XMP, a colour profile (ISO/IEC 15444-1, annex I)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_EXIF_UUID: Final = b"JpgTiffExif->JP2"
_XMP_UUID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_PICTURE_BOXES: Final = (b"jP  ", b"ftyp", b"jp2h", b"jp2c")
_RESTRICTED_ICC, _ANY_ICC = 2, 3
"""Methods of a colour specification that hold an ICC profile."""


@dataclass(frozen=True, slots=True)
class Jp2Metadata:
    """Blocks as they stand in the file; None where there is none."""

    exif: bytes | None = None
    xmp: bytes | None = None
    profile: bytes | None = None


def read_jp2_metadata(data: bytes) -> Jp2Metadata:
    """Find the blocks of a JP2 file; a bare codestream has none."""
    found: dict[str, bytes] = {}
    for kind, _, start, end in _iter_jp2_boxes(data, 0, len(data)):
        if kind == b"uuid":
            name = {_EXIF_UUID: "exif", _XMP_UUID: "xmp"}.get(data[start : start + 16])
            if name is not None:
                found.setdefault(name, data[start + 16 : end])
        if kind == b"jp2h":
            for inner, _, first, last in _iter_jp2_boxes(data, start, end):
                if inner == b"colr" and data[first : first + 1] in (bytes([_RESTRICTED_ICC]), bytes([_ANY_ICC])):
                    found.setdefault("profile", data[first + 3 : last])
    return Jp2Metadata(**found)


def strip_metadata_boxes(data: bytes) -> bytes:
    """A JP2 file without the boxes beside its picture: OpenJPEG gives up where 1 MB of them comes before it."""
    parts, at = [], 0
    for kind, begin, _, end in _iter_jp2_boxes(data, 0, len(data)):
        if kind in _PICTURE_BOXES:
            parts.append(data[begin:end])
        at = end
        if kind == b"jp2c":
            break
    return b"".join([*parts, data[at:]]) if sum(map(len, parts)) < at else data


def _iter_jp2_boxes(data: bytes, offset: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Name of each box, where it begins, and where its content begins and ends."""
    while offset + 8 <= end:
        size, start = int.from_bytes(data[offset : offset + 4], "big"), offset + 8
        if size == 1:
            size, start = int.from_bytes(data[offset + 8 : offset + 16], "big"), offset + 16
        stop = end if size == 0 else offset + size
        if stop < start or stop > end:
            return
        yield data[offset + 4 : offset + 8], offset, start, stop
        offset = stop
