"""Reading objects of a bucket: whole ones, many at once, and parts of containers."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import BinaryIO, Final

from cvbatch.errors import DeniedError, ImageError, TooLargeError
from cvbatch.storage.buckets import Bucket, Got, open_bucket
from cvbatch.storage.options import StorageOptions
from cvbatch.storage.places import SCHEMES, Place

AT_ONCE: Final = 48
"""Requests that a process has under way: one takes some 10 ms, of which the processor works for less than 1."""
DENIED: Final = "PermissionDenied"
MAX_BYTES: Final = 256 << 20
"""Larger objects are no images."""
_BLOCK: Final = 1 << 20


def is_remote(location: bytes) -> bool:
    """Whether a location is an object rather than a file."""
    return location.startswith(tuple(f"{scheme}://".encode() for scheme in SCHEMES))


class RemoteBlob:
    """An object of a bucket, read in ranges of the version that was there when it was opened.

    Args:
        location: Its URI, exactly.
        storage: How to get there.

    Raises:
        ImageError: `NotFound` or `PermissionDenied`.
        UnavailableError: If there is no answer after all tries.
    """

    block = _BLOCK

    def __init__(self, location: bytes, storage: StorageOptions) -> None:
        self.location = location
        self._bucket, self._key = _found(location, storage)
        with _named():
            self._head = self._bucket.head(self._key)

    def size(self) -> int:
        """Bytes in all."""
        return self._head.size

    def read(self, start: int, length: int) -> bytes:
        """Read a range; less comes back only where the object ends."""
        length = min(length, self._head.size - start)
        if length <= 0:
            return b""
        with _named():
            return self._bucket.get_range(self._key, start, length, etag=self._head.etag)

    def stream(self) -> BinaryIO:
        """Read from the beginning to the end, once."""
        with _named():
            return self._bucket.stream(self._key)


class Ahead:
    """Objects that are fetched while others are decoded.

    Args:
        storage: How to get there.
    """

    def __init__(self, storage: StorageOptions) -> None:
        self._storage = storage

    def fetch(self, location: bytes, etag: str | None, changed: Callable[[], None]) -> Callable[[], bytes]:
        """Begin to fetch an object.

        Args:
            location: Its URI, exactly.
            etag: Of the version that was planned, if known.
            changed: Called if it is another version.

        Returns:
            A function that waits for its bytes; it raises `ImageError` `NotFound`, `PermissionDenied` or
            `TooManyBytes`, or UnavailableError after all tries.
        """
        future = _pool(os.getpid()).submit(_get, location, self._storage)
        return partial(_bytes, future, etag, changed)


def download(location: bytes, storage: StorageOptions, target: io.BufferedWriter) -> None:
    """Copy an object into a local file."""
    blob = RemoteBlob(location, storage)
    for start in range(0, blob.size(), 16 << 20):
        target.write(blob.read(start, 16 << 20))


def _bytes(future: Future[Got], etag: str | None, changed: Callable[[], None]) -> bytes:
    with _named():
        got = future.result()
    if etag is not None and got.etag is not None and got.etag != etag:
        changed()
    return got.data


def _get(location: bytes, storage: StorageOptions) -> Got:
    bucket, key = _found(location, storage)
    return bucket.get(key, MAX_BYTES)


def _found(location: bytes, storage: StorageOptions) -> tuple[Bucket, str]:
    scheme, _, rest = os.fsdecode(location).partition("://")
    name, _, key = rest.partition("/")
    return open_bucket(Place(f"{scheme}://{name}", storage)), key


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch")


@contextmanager
def _named() -> Iterator[None]:
    """Say of one object what the storage says of a request."""
    try:
        yield
    except FileNotFoundError:
        raise ImageError("NotFound", "the object is not there (any more)") from None
    except DeniedError as error:
        raise ImageError(DENIED, str(error)) from None
    except TooLargeError as error:
        raise ImageError("TooManyBytes", str(error)) from None
