"""Pillow's warnings are silenced; other warnings and the filters are not changed."""

from __future__ import annotations

import io
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from cvbatch.images.decode import decode
from cvbatch.images.pillow_guards import pillow_pixel_limit, quiet_pillow


def noisy() -> bytes:
    """A JPEG with a truncated Exif block."""
    stream = io.BytesIO()
    block = b"Exif\0\0II\x2a\0\x08\0\0\0\x09\0\x12\x01\x03\0\x01"
    Image.new("RGB", (56, 40)).save(stream, "JPEG", exif=block)
    return stream.getvalue()


def test_the_example_causes_a_warning() -> None:
    with pytest.warns(UserWarning, match="Corrupt EXIF"), Image.open(io.BytesIO(noisy())) as image:
        image.getexif()


def test_threads_neither_leak_warnings_nor_lose_the_filters() -> None:
    data = noisy()
    together = threading.Barrier(4)

    def work(_: int) -> int:
        together.wait()
        return sum(decode(data, max_pixels=10**6).width for _ in range(20))

    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [20 * 56] * 4
    assert warnings.filters == before


def test_only_pillow_is_silenced() -> None:
    with quiet_pillow, pytest.raises(UserWarning, match="ours"):
        warnings.warn("ours", UserWarning, stacklevel=1)


def test_the_limit_of_pillow_is_restored_after_an_error() -> None:
    before = Image.MAX_IMAGE_PIXELS

    @pillow_pixel_limit(9)
    def fail() -> None:
        raise KeyError(Image.MAX_IMAGE_PIXELS)

    with pytest.raises(KeyError, match="5"):
        fail()
    assert before == Image.MAX_IMAGE_PIXELS
