"""JPEGs of every kind, and helpers to damage them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

from PIL import Image

from cvbatch.images.jpeg_layout import read_jpeg_layout
from cvbatch.testing import generate_images

END: Final = b"\xff\xd9"
(PHOTO,) = generate_images([(320, 240)])


def jpeg(image: Image.Image = PHOTO, **options: Any) -> bytes:
    """A JPEG by Pillow."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", **{"quality": 90, **options})
    return stream.getvalue()


KINDS: Final = {
    "4:2:0": jpeg(),
    "4:2:2": jpeg(subsampling=1),
    "4:4:4": jpeg(subsampling=0),
    "optimized": jpeg(optimize=True),
    "progressive": jpeg(progressive=True),
    "restarts": jpeg(restart_marker_rows=1),
    "progressive, restarts": jpeg(progressive=True, restart_marker_rows=1),
    "grey": jpeg(PHOTO.convert("L")),
    "grey, progressive": jpeg(PHOTO.convert("L"), progressive=True),
    "four inks": jpeg(PHOTO.convert("CMYK")),
    "RGB": jpeg(keep_rgb=True),
}


def in_passes(planes: Sequence[Image.Image]) -> bytes:
    """A JPEG with one scan, and tables, per channel; the channels are grey pictures of one size."""
    files = [jpeg(plane, optimize=True, subsampling=0) for plane in planes]
    first, scans = files[0], b""
    for number, data in enumerate(files, 1):
        start, end = pixels_at(data)
        tables = data[segment_at(data, 0xC4) : segment_at(data, 0xDA)]
        scans += tables + b"\xff\xda\0\x08\1" + bytes((number, 0)) + b"\0\x3f\0" + data[start:end]
    frame = segment_at(first, 0xC0)
    channels = b"".join(bytes((number, 0x11, 0)) for number in range(1, len(files) + 1))
    size = first[frame + 4 : frame + 9] + bytes((len(files),))
    return first[:frame] + b"\xff\xc0" + (8 + len(channels)).to_bytes(2, "big") + size + channels + scans + END


def pixels_at(data: bytes) -> tuple[int, int]:
    """Offsets where the pixels of the first scan start and the last pixels end."""
    layout = read_jpeg_layout(data)
    assert layout is not None
    assert layout.scan_end is not None
    return layout.scan_start, layout.scan_end


def put(data: bytes, offset: int, new: bytes, *, instead_of: int = 0) -> bytes:
    """Insert bytes at an offset, in place of the next `instead_of` bytes."""
    return data[:offset] + new + data[offset + instead_of :]


def segment_at(data: bytes, marker: int) -> int:
    """Offset of a segment."""
    return data.index(bytes((0xFF, marker)))
