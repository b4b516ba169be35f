"""Files that are read in pieces: the small seam between containers and the place where they lie."""

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
    """An archive or a table cannot be read any further; the message says why."""


class ByteBlob(Protocol):
    """A file of known size; safe to be read by several threads at once."""

    location: bytes
    """Exact absolute path or URI."""
    block: int
    """So many bytes are worth reading at once where a little of them is needed next."""

    def byte_size(self) -> int:
        """Bytes in all."""

    def read_range(self, start: int, length: int) -> bytes:
        """Read a range; less comes back only where the file ends."""

    def open_stream(self) -> BinaryIO:
        """Read from the beginning to the end, once."""

    def open_sibling(self, name: bytes) -> ByteBlob:
        """Open another file of the same folder; the errors are those of `open_blob`."""


class LocalBlob:
    """A regular file of a local disk, open as long as this object lives.

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
        """Bytes in all."""
        return self._size

    def read_range(self, start: int, length: int) -> bytes:
        """Read a range; less comes back only where the file ends."""
        pieces = []
        while length > 0 and (piece := os.pread(self._descriptor, length, start)):
            pieces.append(piece)
            start, length = start + len(piece), length - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def open_stream(self) -> BinaryIO:
        """Read from the beginning to the end, once."""
        return open_buffered(self, 1 << 20)

    def open_sibling(self, name: bytes) -> LocalBlob:
        """Open another file of the same folder."""
        return LocalBlob(os.path.join(os.path.dirname(self.location), name))

    def map_to_memory(self) -> pa.Buffer:
        """All its bytes, mapped into memory."""
        return pa.py_buffer(mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ))


def open_blob(location: bytes, storage: StorageOptions = NO_STORAGE_OPTIONS) -> ByteBlob:
    """Open the file at an exact absolute path, or an object.

    Raises:
        ImageError: If it cannot be read, with the reason as its kind.
        OSError: Anything else that the file system reports.
    """
    return RemoteBlob(location, storage) if is_remote(location) else LocalBlob(location)


class LazyBlob:
    """A blob that is opened when it is first needed, by whichever thread.

    Args:
        location: Exact absolute path, or URI.
        storage: How to get to an object.
    """

    def __init__(self, location: bytes, storage: StorageOptions = NO_STORAGE_OPTIONS) -> None:
        self.location = location
        self._storage = storage
        self._blob: ByteBlob | None = None
        self._lock = threading.Lock()

    def open_once(self) -> ByteBlob:
        """The blob; the errors are those of `open_blob`, each time."""
        with self._lock:
            if self._blob is None:
                self._blob = open_blob(self.location, self._storage)
            return self._blob


def archive_changed_error() -> ImageError:
    """What is said where a container holds something else than was planned."""
    return ImageError("ArchiveChanged", "the file is not what it was when it was planned; --update plans it anew")


def open_buffered(blob: ByteBlob, block: int | None = None) -> BinaryIO:
    """A blob as a seekable file, for libraries that want one."""
    return _BoundedBufferedReader(blob, block or blob.block)


def read_all_bytes(blob: ByteBlob) -> pa.Buffer:
    """All its bytes; those of a local file come into memory only where they are looked at."""
    if not blob.byte_size():
        return pa.py_buffer(b"")
    if isinstance(blob, LocalBlob):
        return blob.map_to_memory()
    return pa.py_buffer(blob.read_range(0, blob.byte_size()))


class _BoundedBufferedReader(io.BufferedReader):
    def __init__(self, blob: ByteBlob, block: int) -> None:
        super().__init__(RangeReader(blob.read_range, blob.byte_size()), block)
        self._end = blob.byte_size()

    def read(self, size: int | None = -1, /) -> bytes:
        """Read so many bytes; a damaged file may promise more than there is memory, so never more than there are."""
        if size is not None and size > self._end:
            size = max(0, self._end - self.tell())
        return super().read(size)
