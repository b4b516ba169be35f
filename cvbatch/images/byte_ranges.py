"""Ranges of the bytes of a file that is not in memory as a whole."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Protocol

BLOCK_BYTES: Final = 64 << 10
_KEPT_BLOCKS: Final = 16


class ByteRanges(Protocol):
    """A file of known size; `cvbatch.sources.fetch.blob.ByteBlob` is one."""

    def byte_size(self) -> int:
        """Size of the file in bytes."""

    def read_range(self, start: int, length: int) -> bytes:
        """Read `length` bytes; fewer only at the end of the file."""


@dataclass(frozen=True, slots=True)
class HeldBytes:
    """A file that is in memory."""

    data: bytes

    def byte_size(self) -> int:
        """See `ByteRanges`."""
        return len(self.data)

    def read_range(self, start: int, length: int) -> bytes:
        """See `ByteRanges`."""
        return self.data[start : start + length]


@dataclass(frozen=True, slots=True)
class CachedRanges:
    """Reads small ranges in blocks of 64 KiB and keeps the last ones, since each request to a bucket takes 10 ms."""

    file: ByteRanges
    _blocks: OrderedDict[int, bytes] = field(default_factory=OrderedDict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def byte_size(self) -> int:
        """See `ByteRanges`."""
        return self.file.byte_size()

    def read_range(self, start: int, length: int) -> bytes:
        """See `ByteRanges`."""
        if length >= BLOCK_BYTES or isinstance(self.file, HeldBytes):
            return self.file.read_range(start, length)
        first, last = start // BLOCK_BYTES, (start + length) // BLOCK_BYTES
        joined = b"".join(self._read_block(index) for index in range(first, last + 1))
        return joined[start - first * BLOCK_BYTES :][:length]

    def _read_block(self, index: int) -> bytes:
        with self._lock:
            if index in self._blocks:
                self._blocks.move_to_end(index)
                return self._blocks[index]
        block = self.file.read_range(index * BLOCK_BYTES, BLOCK_BYTES)
        with self._lock:
            self._blocks[index] = block
            if len(self._blocks) > _KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        return block


def read_all(file: ByteRanges) -> bytes:
    """Read a whole file."""
    return file.data if isinstance(file, HeldBytes) else file.read_range(0, file.byte_size())
