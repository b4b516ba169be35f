"""Capture time, camera and position are read independently."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from cvbatch.images.exif import ExifMetadata, load_exif_tags, read_exif_metadata, read_orientation

GPS = ExifTags.GPS


def stored(
    base: dict[int, Any] | None = None, photo: dict[int, Any] | None = None, position: dict[int, Any] | None = None
) -> Image.Exif | None:
    """Tags as read from a file."""
    tags = Image.Exif()
    tags.update(base or {})
    tags.get_ifd(ExifTags.IFD.Exif).update(photo or {})
    tags.get_ifd(ExifTags.IFD.GPSInfo).update(position or {})
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", exif=tags)
    with Image.open(stream) as image:
        return load_exif_tags(image)


def place(latitude: Any, north: Any, longitude: Any, east: Any) -> dict[int, Any]:
    return {
        GPS.GPSLatitude: latitude,
        GPS.GPSLatitudeRef: north,
        GPS.GPSLongitude: longitude,
        GPS.GPSLongitudeRef: east,
    }


def test_all_columns() -> None:
    metadata = read_exif_metadata(
        stored(
            {ExifTags.Base.Make: "Canon", ExifTags.Base.Model: "Canon EOS 80D"},
            {ExifTags.Base.DateTimeOriginal: "2019:07:03 16:05:09"},
            place((48.0, 51.0, 30.0), "N", (2.0, 17.0, 24.0), "W"),
        )
    )
    assert metadata.captured_at == datetime(2019, 7, 3, 16, 5, 9)
    assert metadata.camera == "Canon EOS 80D"
    assert metadata.latitude == pytest.approx(48 + 51 / 60 + 30 / 3600)
    assert metadata.longitude == pytest.approx(-(2 + 17 / 60 + 24 / 3600))


def test_no_tags() -> None:
    assert read_exif_metadata(None) == ExifMetadata()
    assert read_exif_metadata(stored()) == ExifMetadata()
    assert read_orientation(None) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2019:07:03 16:05:09", datetime(2019, 7, 3, 16, 5, 9)),
        ("2019-07-03T16:05:09", datetime(2019, 7, 3, 16, 5, 9)),
        ("2019:07:03 16:05:09.25+02:00", datetime(2019, 7, 3, 16, 5, 9)),
        ("0000:00:00 00:00:00", None),
        ("2019:02:30 10:00:00", None),
        ("2019:07:03 24:00:00", None),
        ("    :  :     :  :  ", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_capture_time(text: str, expected: datetime | None) -> None:
    assert read_exif_metadata(stored(photo={ExifTags.Base.DateTimeOriginal: text})).captured_at == expected


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [
        ("Canon", "Canon EOS 80D", "Canon EOS 80D"),
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("SONY ", "DSC-RX100\0\0", "SONY DSC-RX100"),
        ("Leica", "", "Leica"),
        ("", "D90", "D90"),
        (" ", "\0", None),
    ],
)
def test_camera(make: str, model: str, expected: str | None) -> None:
    assert read_exif_metadata(stored({ExifTags.Base.Make: make, ExifTags.Base.Model: model})).camera == expected


@pytest.mark.parametrize(
    ("value", "reference", "expected"),
    [
        ((90.0, 0.0, 0.0), "N", 90),
        ((33.0, 51.5, 0.0), "S", -33.858333),
        ((10.0, 0.0, 0.0), "n", 10),
        ((0.0, 0.0, 0.0), "S", 0),
        ((90.0, 0.0, 1.0), "N", None),
        ((10.0, 61.0, 0.0), "N", None),
        ((10.0, 0.0, 99.0), "N", None),
        ((IFDRational(1, 0), IFDRational(0, 0), IFDRational(0, 0)), "N", None),
        ((10.0, 30.0), "N", None),
        ("north", "N", None),
        ((10.0, 0.0, 0.0), "X", None),
        ((10.0, 0.0, 0.0), "", None),
    ],
)
def test_latitude_leaves_longitude_alone(value: Any, reference: Any, expected: float | None) -> None:
    # The tags are not written to a file, because Pillow does not write most of these values.
    tags = Image.Exif()
    tags.get_ifd(ExifTags.IFD.GPSInfo).update(place(value, reference, (2.0, 30.0, 0.0), "E"))
    metadata = read_exif_metadata(tags)
    assert metadata.latitude == (None if expected is None else pytest.approx(expected))
    assert metadata.longitude == 2.5


@pytest.mark.parametrize(
    ("value", "expected"), [(1, 1), (6, 6), (8, 8), (0, 1), (9, 1), ("6", 1), ((6, 6), 1), (6.0, 1)]
)
def test_orientation(value: Any, expected: int) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = value
    assert read_orientation(tags) == expected
