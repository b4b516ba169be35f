"""Files in memory that others own, such as Ray's object store: parts are copied when they are needed."""

from __future__ import annotations

from typing import Protocol


class FileBytes(Protocol):
    """What readers of parts need of a file; `bytes` are that, too."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes:
        """Return a part of the file."""
        ...

    def startswith(self, prefix: bytes | tuple[bytes, ...], /) -> bool:
        """Whether the file begins with these bytes, or some of these."""
        ...


class FileView:
    """`FileBytes` of a buffer, which is not copied as a whole.

    Args:
        buffer: The file.
    """

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer

    def __len__(self) -> int:
        return len(self._buffer)

    def __getitem__(self, part: slice) -> bytes:
        return bytes(self._buffer[part])

    def startswith(self, prefix: bytes | tuple[bytes, ...]) -> bool:
        """See `FileBytes.startswith`."""
        prefixes = (prefix,) if isinstance(prefix, bytes) else prefix
        return bytes(self._buffer[: max(map(len, prefixes))]).startswith(prefixes)
