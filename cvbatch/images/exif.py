"""Read orientation, capture time, camera and position from Exif; values that cannot be true are dropped.

Source of the tags: Exif 3.0 (CIPA DC-008-2023), 4.6.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image

from cvbatch.images.formats import MALFORMED_ERRORS

_TIMESTAMP_PATTERN = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)")


@dataclass(frozen=True, slots=True)
class ExifMetadata:
    """Columns that `source.exif` adds; None if a value is missing or impossible."""

    captured_at: datetime | None = None
    """Time of the camera's clock, without a time zone."""
    camera: str | None = None
    """Maker and model."""
    latitude: float | None = None
    """Degrees, north positive, -90 to 90."""
    longitude: float | None = None
    """Degrees, east positive, -180 to 180."""


def load_exif_tags(image: Image.Image) -> Image.Exif | None:
    """Return the Exif tags of a loaded image; None if they cannot be read at all."""
    try:
        return image.getexif()
    except MALFORMED_ERRORS:
        return None


def parse_exif_block(block: bytes) -> Image.Exif | None:
    """Parse an Exif block, which starts like a TIFF or with `Exif`; None if it cannot be read at all."""
    tags = Image.Exif()
    try:
        tags.load(block)
    except MALFORMED_ERRORS:
        return None
    return tags


def read_orientation(tags: Image.Exif | None, xmp: object = None) -> int:
    """Read how the picture must be rotated: from Exif, or from XMP if Exif has no orientation.

    Args:
        tags: Exif tags; None if there are none.
        xmp: XMP packet as text or bytes; None if there is none.

    Returns:
        1 (upright) to 8, as in Exif.
    """
    value = _get_exif_tag(tags, ExifTags.Base.Orientation)
    if isinstance(value, int) and 1 <= value <= 8:
        return value
    return _read_xmp_orientation(xmp.encode() if isinstance(xmp, str) else xmp if isinstance(xmp, bytes) else b"")


_MAX_XMP_BYTES = 1 << 20
_TIFF_NAMESPACE_PATTERN = re.compile(rb"""xmlns:([\w.-]+)\s*=\s*["']http://ns\.adobe\.com/tiff/1\.0/["']""")


def _read_xmp_orientation(packet: bytes) -> int:
    """Read the orientation in an XMP packet (ISO 16684-1), an attribute or element with any prefix; 1 if missing."""
    packet = packet[:_MAX_XMP_BYTES].replace(b"\0", b"")  # also reads UTF-16 of ASCII letters
    for prefix in {b"tiff", *_TIFF_NAMESPACE_PATTERN.findall(packet)}:
        name = re.escape(prefix) + rb":Orientation"
        match = re.search(name + rb"""(?:\s*=\s*["']|\s*>)\s*([1-8])\s*["'<]""", packet)
        if match:
            return int(match[1])
    return 1


def is_transposed(orientation: int) -> bool:
    """Whether an orientation swaps height and width."""
    return orientation >= 5


def read_exif_metadata(tags: Image.Exif | None) -> ExifMetadata:
    """Read the metadata columns from Exif tags; a broken value does not affect the others."""
    gps = _get_exif_directory(tags, ExifTags.IFD.GPSInfo)
    return ExifMetadata(
        captured_at=_parse_exif_time(
            _get_exif_tag(_get_exif_directory(tags, ExifTags.IFD.Exif), ExifTags.Base.DateTimeOriginal)
        ),
        camera=_join_camera_name(
            _clean_exif_text(_get_exif_tag(tags, ExifTags.Base.Make)),
            _clean_exif_text(_get_exif_tag(tags, ExifTags.Base.Model)),
        ),
        latitude=_parse_gps_degrees(
            _get_exif_tag(gps, ExifTags.GPS.GPSLatitude),
            _get_exif_tag(gps, ExifTags.GPS.GPSLatitudeRef),
            "NS",
            90,
        ),
        longitude=_parse_gps_degrees(
            _get_exif_tag(gps, ExifTags.GPS.GPSLongitude),
            _get_exif_tag(gps, ExifTags.GPS.GPSLongitudeRef),
            "EW",
            180,
        ),
    )


def _get_exif_directory(tags: Image.Exif | None, ifd: int) -> Mapping[int, Any] | None:
    try:
        return None if tags is None else tags.get_ifd(ifd)
    except MALFORMED_ERRORS:
        return None


def _get_exif_tag(tags: Mapping[int, Any] | None, tag: int) -> Any:
    try:
        return None if tags is None else tags.get(tag)
    except MALFORMED_ERRORS:
        return None


def _clean_exif_text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("ascii", errors="ignore")
    return " ".join(value.partition("\0")[0].split()) if isinstance(value, str) else ""


def _parse_exif_time(value: Any) -> datetime | None:
    match = _TIMESTAMP_PATTERN.match(_clean_exif_text(value))
    try:
        return datetime(*map(int, match.groups())) if match else None  # type: ignore[arg-type]  # six numbers
    except ValueError:
        return None


def _join_camera_name(make: str, model: str) -> str | None:
    # "NIKON CORPORATION" and "NIKON D90": most models begin with the maker's name.
    has_make = make and model.casefold().startswith(make.split()[0].casefold())
    return (model if has_make else f"{make} {model}".strip()) or None


def _parse_gps_degrees(value: Any, reference: Any, signs: str, limit: int) -> float | None:
    letter = _clean_exif_text(reference).upper()
    if len(letter) != 1 or letter not in signs:
        return None
    try:
        degrees, minutes, seconds = (float(part) for part in value)
    except MALFORMED_ERRORS:
        return None
    if not (degrees >= 0 and 0 <= minutes <= 60 and 0 <= seconds <= 60):
        return None
    angle = degrees + minutes / 60 + seconds / 3600
    if not math.isfinite(angle) or angle > limit:
        return None
    return -angle if letter == signs[1] else angle
