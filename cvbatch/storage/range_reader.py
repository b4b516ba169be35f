"""A read-only file object that reads ranges of an object in a bucket."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

Fetch = Callable[[int, int], bytes]
"""Returns a range of one version of an object; the arguments are start and length in bytes."""


class RangeReader(io.RawIOBase):
    """Reads an object of known size; each read is one request, so wrap it in a buffer.

    Args:
        fetch: Returns a range of the object.
        size: Size of the object in bytes.
    """

    def __init__(self, fetch: Fetch, size: int) -> None:
        self._fetch, self._size, self._position = fetch, size, 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Current position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position, without a request."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(f"expected a position of at least 0, got {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read bytes into a buffer, and return their number; 0 at the end of the object."""
        view = memoryview(buffer).cast("B")
        length = min(len(view), self._size - self._position)
        if length <= 0:
            return 0
        data = self._fetch(self._position, length)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)
