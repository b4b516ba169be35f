"""When, with what and where a photo was taken, as far as its Exif block can be believed.

Tags and their meaning: Exif 3.0 (CIPA DC-008-2023), 4.6.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image

from cvbatch.images.formats import MALFORMED

_TIME = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)")


@dataclass(frozen=True, slots=True)
class ExifFacts:
    """The columns that `source.exif` adds; None where the block does not say, or says what cannot be."""

    captured_at: datetime | None = None
    """Time on the camera's clock, without a time zone."""
    camera: str | None = None
    """Maker and model."""
    latitude: float | None = None
    """Degrees, north positive, -90 to 90."""
    longitude: float | None = None
    """Degrees, east positive, -180 to 180."""


def read_tags(image: Image.Image) -> Image.Exif | None:
    """Exif block of an image after loading; None if it cannot be read at all."""
    try:
        return image.getexif()
    except MALFORMED:
        return None


def tags_of(block: bytes) -> Image.Exif | None:
    """Tags of an Exif block, which begins as a TIFF does or with `Exif`; None if it cannot be read at all."""
    tags = Image.Exif()
    try:
        tags.load(block)
    except MALFORMED:
        return None
    return tags


def orientation(tags: Image.Exif | None, xmp: object = None) -> int:
    """How the picture has to be turned: by Exif, or where that does not say, by XMP; the same for all formats.

    Args:
        tags: Of the Exif block; None if there is none.
        xmp: The XMP packet, text or bytes, or None.

    Returns:
        1 (not at all) to 8.
    """
    value = _tag(tags, ExifTags.Base.Orientation)
    if isinstance(value, int) and 1 <= value <= 8:
        return value
    return _orientation_by_xmp(xmp.encode() if isinstance(xmp, str) else xmp if isinstance(xmp, bytes) else b"")


_XMP_LIMIT = 1 << 20
_TIFF_NAMESPACE = re.compile(rb"""xmlns:([\w.-]+)\s*=\s*["']http://ns\.adobe\.com/tiff/1\.0/["']""")


def _orientation_by_xmp(packet: bytes) -> int:
    """Orientation by an XMP packet (ISO 16684-1), as an attribute or as an element, under any prefix; 1 if none is."""
    packet = packet[:_XMP_LIMIT].replace(b"\0", b"")  # UTF-16 of these letters
    for prefix in {b"tiff", *_TIFF_NAMESPACE.findall(packet)}:
        name = re.escape(prefix) + rb":Orientation"
        found = re.search(name + rb"""(?:\s*=\s*["']|\s*>)\s*([1-8])\s*["'<]""", packet)
        if found:
            return int(found[1])
    return 1


def sideways(turn: int) -> bool:
    """Whether an orientation makes height and width change places."""
    return turn >= 5


def read_facts(tags: Image.Exif | None) -> ExifFacts:
    """Take the facts out of an Exif block, each by itself."""
    position = _directory(tags, ExifTags.IFD.GPSInfo)
    return ExifFacts(
        captured_at=_time(_tag(_directory(tags, ExifTags.IFD.Exif), ExifTags.Base.DateTimeOriginal)),
        camera=_camera(_text(_tag(tags, ExifTags.Base.Make)), _text(_tag(tags, ExifTags.Base.Model))),
        latitude=_degrees(
            _tag(position, ExifTags.GPS.GPSLatitude), _tag(position, ExifTags.GPS.GPSLatitudeRef), "NS", 90
        ),
        longitude=_degrees(
            _tag(position, ExifTags.GPS.GPSLongitude), _tag(position, ExifTags.GPS.GPSLongitudeRef), "EW", 180
        ),
    )


def _directory(tags: Image.Exif | None, which: int) -> Mapping[int, Any] | None:
    try:
        return None if tags is None else tags.get_ifd(which)
    except MALFORMED:
        return None


def _tag(tags: Mapping[int, Any] | None, tag: int) -> Any:
    try:
        return None if tags is None else tags.get(tag)
    except MALFORMED:
        return None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("ascii", errors="ignore")
    return " ".join(value.partition("\0")[0].split()) if isinstance(value, str) else ""


def _time(value: Any) -> datetime | None:
    found = _TIME.match(_text(value))
    try:
        return datetime(*map(int, found.groups())) if found else None  # type: ignore[arg-type]  # six numbers
    except ValueError:
        return None


def _camera(make: str, model: str) -> str | None:
    # "NIKON CORPORATION" and "NIKON D90": most models begin with the maker's name.
    named = make and model.casefold().startswith(make.split()[0].casefold())
    return (model if named else f"{make} {model}".strip()) or None


def _degrees(value: Any, reference: Any, signs: str, limit: int) -> float | None:
    letter = _text(reference).upper()
    if len(letter) != 1 or letter not in signs:
        return None
    try:
        degrees, minutes, seconds = (float(part) for part in value)
    except MALFORMED:
        return None
    if not (degrees >= 0 and 0 <= minutes <= 60 and 0 <= seconds <= 60):
        return None
    size = degrees + minutes / 60 + seconds / 3600
    if not math.isfinite(size) or size > limit:
        return None
    return -size if letter == signs[1] else size
