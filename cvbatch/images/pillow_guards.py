"""Set the globals of Pillow and of `warnings` safely while threads decode images."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from PIL import Image


class _PillowWarningFilter:
    """Silences Pillow's warnings while any thread is inside.

    `warnings.catch_warnings` alone is not thread-safe: the first thread to leave would restore the warnings for the
    others, and the last one would leave another thread's filter behind.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active_threads = 0
        self._saved_filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._active_threads == 0:
                self._saved_filters = warnings.catch_warnings()
                self._saved_filters.__enter__()
                warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\b")
            self._active_threads += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._active_threads -= 1
            if self._active_threads == 0:
                self._saved_filters.__exit__(None, None, None)


quiet_pillow: Final = _PillowWarningFilter()
_pixel_limit_lock: Final = threading.Lock()


@contextmanager
def pillow_pixel_limit(max_pixels: int) -> Iterator[None]:
    """Set the limit of the checks in Pillow's plugins to `max_pixels`.

    Used only for images beyond Pillow's own limit, one at a time, because the limit is a global of Pillow.
    """
    with _pixel_limit_lock:
        pillow_limit = Image.MAX_IMAGE_PIXELS
        # Pillow raises at more than twice its limit.
        Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = pillow_limit
