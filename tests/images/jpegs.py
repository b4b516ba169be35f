"""JPEGs of every kind, and what becomes of them on the way."""

from __future__ import annotations

import io
from typing import Any, Final

from PIL import Image

from cvbatch.images.jpeg_layout import read_layout
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


def pixels_at(data: bytes) -> tuple[int, int]:
    """Where the pixels of the first scan begin, and where the last ones end."""
    layout = read_layout(data)
    assert layout is not None
    assert layout.end is not None
    return layout.start, layout.end


def put(data: bytes, at: int, new: bytes, *, instead_of: int = 0) -> bytes:
    """The same with other bytes somewhere."""
    return data[:at] + new + data[at + instead_of :]


def segment_at(data: bytes, marker: int) -> int:
    """Where a segment begins."""
    return data.index(bytes((0xFF, marker)))
