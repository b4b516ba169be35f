"""Blobs: random access to the bytes of a container, local or in a bucket."""

from __future__ import annotations

import io
import mmap
import os
import threading
import weakref
from typing import BinaryIO, Final, Protocol

import pyarrow as pa

from cvbatch.errors import ImageError
from cvbatch.sources.fetch.local import open_local
from cvbatch.sources.fetch.prefetch import RemoteBlob, is_remote
from cvbatch.storage.options import StorageOptions
from cvbatch.storage.range_reader import RangeReader

NO_STORAGE_OPTIONS: Final = StorageOptions()
_LOCAL_BLOCK: Final = 8 << 10


class BrokenContainerError(Exception):
    """An archive or a table cannot be read any further; the message gives the reason."""


class ByteBlob(Protocol):
    """A file of known size that several threads can read concurrently."""

    location: bytes
    """Exact absolute path or URI."""
    block: int
    """Bytes to read at once if a few of them are needed."""

    def byte_size(self) -> int:
        """Size of the file in bytes."""

    def read_range(self, start: int, length: int) -> bytes:
        """Read `length` bytes; fewer only at the end of the file."""

    def open_stream(self) -> BinaryIO:
        """Open a stream that reads once from beginning to end."""

    def open_sibling(self, name: bytes) -> ByteBlob:
        """Open another file of the same folder; errors as for `open_blob`."""


class LocalBlob:
    """A regular local file, open for the lifetime of this object.

    Args:
        path: Exact absolute path.

    Raises:
        ImageError: As `read_local`.
        OSError: As `read_local`.
    """

    block = _LOCAL_BLOCK

    def __init__(self, path: bytes) -> None:
        self.location = path
        self._descriptor = open_local(path)
        weakref.finalize(self, os.close, self._descriptor)
        self._size = os.fstat(self._descriptor).st_size

    def byte_size(self) -> int:
        """Size of the file in bytes."""
        return self._size

    def read_range(self, start: int, length: int) -> bytes:
        """Read `length` bytes; fewer only at the end of the file."""
        chunks = []
        while length > 0 and (chunk := os.pread(self._descriptor, length, start)):
            chunks.append(chunk)
            start, length = start + len(chunk), length - len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def open_stream(self) -> BinaryIO:
        """Open a stream that reads once from beginning to end."""
        return open_buffered(self, 1 << 20)

    def open_sibling(self, name: bytes) -> LocalBlob:
        """Open another file of the same folder."""
        return LocalBlob(os.path.join(os.path.dirname(self.location), name))

    def map_to_memory(self) -> pa.Buffer:
        """All bytes of the file, mapped into memory."""
        return pa.py_buffer(mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ))


def open_blob(location: bytes, storage: StorageOptions = NO_STORAGE_OPTIONS) -> ByteBlob:
    """Open a local file by its exact absolute path, or an object by its URI.

    Raises:
        ImageError: If it cannot be read; the kind gives the reason.
        OSError: Any other error of the file system.
    """
    return RemoteBlob(location, storage) if is_remote(location) else LocalBlob(location)


class LazyBlob:
    """A blob that is opened on first use, by any thread.

    Args:
        location: Exact absolute path or URI.
        storage: Options for reading objects.
    """

    def __init__(self, location: bytes, storage: StorageOptions = NO_STORAGE_OPTIONS) -> None:
        self.location = location
        self._storage = storage
        self._blob: ByteBlob | None = None
        self._lock = threading.Lock()

    def open_once(self) -> ByteBlob:
        """The blob; errors as for `open_blob`, on each call."""
        with self._lock:
            if self._blob is None:
                self._blob = open_blob(self.location, self._storage)
            return self._blob


def archive_changed_error() -> ImageError:
    """Error for a container with other content than planned."""
    return ImageError("ArchiveChanged", "the file has changed since it was planned; --update plans it again")


def open_buffered(blob: ByteBlob, block: int | None = None) -> BinaryIO:
    """A blob as a seekable file, for libraries that need one."""
    return _BoundedBufferedReader(blob, block or blob.block)


def read_all_bytes(blob: ByteBlob) -> pa.Buffer:
    """All bytes of a blob; a local file is mapped, so only the pages that are used come into memory."""
    if not blob.byte_size():
        return pa.py_buffer(b"")
    if isinstance(blob, LocalBlob):
        return blob.map_to_memory()
    return pa.py_buffer(blob.read_range(0, blob.byte_size()))


class _BoundedBufferedReader(io.BufferedReader):
    def __init__(self, blob: ByteBlob, block: int) -> None:
        super().__init__(RangeReader(blob.read_range, blob.byte_size()), block)
        self._file_bytes = blob.byte_size()

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most to the end of the file: a damaged file can declare sizes larger than memory."""
        if size is not None and size > self._file_bytes:
            size = max(0, self._file_bytes - self.tell())
        return super().read(size)
