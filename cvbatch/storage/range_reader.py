"""An object as a file: read in ranges, at any position."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

Fetch = Callable[[int, int], bytes]
"""Start and length, both in bytes, to that part of one version of an object."""


class RangeReader(io.RawIOBase):
    """Reads an object of known size; each read is one request, so it is best wrapped into a buffer.

    Args:
        fetch: Gets a range.
        size: Of the object in bytes.
    """

    def __init__(self, fetch: Fetch, size: int) -> None:
        self._fetch, self._size, self._at = fetch, size, 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; nothing is fetched by that."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(f"expected a position from 0 on, got {start + offset}")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; 0 at the end."""
        view = memoryview(buffer).cast("B")
        length = min(len(view), self._size - self._at)
        if length <= 0:
            return 0
        data = self._fetch(self._at, length)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
