"""What lies beside the picture in a JP2 file: Exif, XMP, a colour profile (ISO/IEC 15444-1, annex I)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_EXIF: Final = b"JpgTiffExif->JP2"
_XMP: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_PICTURE: Final = (b"jP  ", b"ftyp", b"jp2h", b"jp2c")
_RESTRICTED, _ANY = 2, 3
"""Methods of a colour specification that hold an ICC profile."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Blocks as they stand in the file; None where there is none."""

    exif: bytes | None = None
    xmp: bytes | None = None
    profile: bytes | None = None


def beside(data: bytes) -> Beside:
    """Find the blocks of a JP2 file; a bare codestream has none."""
    found: dict[str, bytes] = {}
    for kind, _, start, end in _boxes(data, 0, len(data)):
        if kind == b"uuid":
            name = {_EXIF: "exif", _XMP: "xmp"}.get(data[start : start + 16])
            if name is not None:
                found.setdefault(name, data[start + 16 : end])
        if kind == b"jp2h":
            for inner, _, first, last in _boxes(data, start, end):
                if inner == b"colr" and data[first : first + 1] in (bytes([_RESTRICTED]), bytes([_ANY])):
                    found.setdefault("profile", data[first + 3 : last])
    return Beside(**found)


def without_others(data: bytes) -> bytes:
    """A JP2 file without the boxes beside its picture: OpenJPEG gives up where 1 MB of them comes before it."""
    parts, at = [], 0
    for kind, begin, _, end in _boxes(data, 0, len(data)):
        if kind in _PICTURE:
            parts.append(data[begin:end])
        at = end
        if kind == b"jp2c":
            break
    return b"".join([*parts, data[at:]]) if sum(map(len, parts)) < at else data


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Name of each box, where it begins, and where its content begins and ends."""
    while at + 8 <= end:
        size, start = int.from_bytes(data[at : at + 4], "big"), at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        stop = end if size == 0 else at + size
        if stop < start or stop > end:
            return
        yield data[at + 4 : at + 8], at, start, stop
        at = stop
