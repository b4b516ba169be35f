"""Keeping the globals of Pillow and of `warnings` out of the way while images are decoded, in any number of threads."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from PIL import Image


class _PillowWarningFilter:
    """Silences Pillow's warnings while any thread is inside.

    `warnings.catch_warnings` alone is not safe in threads: the first to leave would bring the warnings back for the
    others, and the last would leave the filter of another behind.
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
    """Have Pillow's own checks inside its plugins refuse what is larger than ours, and nothing else.

    Reached only by images beyond Pillow's limit, one at a time: the limit is a global of Pillow.
    """
    with _pixel_limit_lock:
        before = Image.MAX_IMAGE_PIXELS
        # Pillow raises at more than twice its limit.
        Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before
