"""Reading what is not on a disk: whole objects and images of the web, many at once, and parts of containers."""

from __future__ import annotations

import io
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import BinaryIO, Final

from cvbatch.errors import DeniedError, ImageError, TooLargeError
from cvbatch.sources.archives.members import MAX_IMAGE_BYTES
from cvbatch.sources.fetch import http
from cvbatch.sources.fetch.url_policy import is_http
from cvbatch.storage.buckets import Bucket, GetResult, open_bucket
from cvbatch.storage.fetch_options import FetchOptions
from cvbatch.storage.location import SCHEMES, Location
from cvbatch.storage.options import StorageOptions

_AT_ONCE: Final = 48
"""Requests that a process has under way: one takes some 10 ms, of which the processor works for less than 1."""
DENIED_TYPE: Final = "PermissionDenied"
_MAX_HELD_BYTES: Final = 64 << 20
_REMOTE_PREFIXES: Final = tuple(f"{scheme}://".encode() for scheme in SCHEMES)
_BLOCK: Final = 1 << 20


def is_remote(location: bytes) -> bool:
    """Whether a location is an object of a bucket."""
    return location.startswith(_REMOTE_PREFIXES)


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
        self._storage = storage
        self._bucket, self._key = _bucket_and_key(location, storage)
        with _map_object_errors():
            self._head = self._bucket.head_object(self._key)

    def byte_size(self) -> int:
        """Bytes in all."""
        return self._head.size

    def read_range(self, start: int, length: int) -> bytes:
        """Read a range; less comes back only where the object ends."""
        length = min(length, self._head.size - start)
        if length <= 0:
            return b""
        with _map_object_errors():
            return self._bucket.get_range(self._key, start, length, etag=self._head.etag)

    def open_stream(self) -> BinaryIO:
        """Read from the beginning to the end, once."""
        with _map_object_errors():
            return self._bucket.stream_object(self._key)

    def open_sibling(self, name: bytes) -> RemoteBlob:
        """Open another object of the same folder."""
        return RemoteBlob(os.path.join(os.path.dirname(self.location), name), self._storage)


@dataclass(slots=True, eq=False)
class _PendingFetch:
    location: bytes
    etag: str | None
    changed: Callable[[], None]
    future: Future[GetResult] | None = None
    """Once it is under way."""


class Prefetcher:
    """Objects and images of the web that are fetched while others are decoded.

    Args:
        reach: How to get there.
        most_requests: How many are under way at most.
        most_bytes: While so many are fetched and not taken yet, nothing more is begun: sizes may be unknown.
    """

    def __init__(
        self, reach: FetchOptions, *, most_requests: int = _AT_ONCE, most_bytes: int = _MAX_HELD_BYTES
    ) -> None:
        self._reach = reach
        self._most_requests, self._most_bytes = most_requests, most_bytes
        self._lock = threading.RLock()  # a future that is done already calls back at once
        self._waiting: deque[_PendingFetch] = deque()
        self._under_way = 0
        self._held = 0

    def prefetch_image(self, location: bytes, etag: str | None, changed: Callable[[], None]) -> Callable[[], bytes]:
        """Fetch an image as soon as may be.

        Args:
            location: Its URI, exactly.
            etag: Of the version that was planned, if known.
            changed: Called if it is another version.

        Returns:
            A function that waits for its bytes, to be called once; it raises `ImageError` `NotFound`,
            `PermissionDenied` or `TooManyBytes`, what `http.get_image` raises, or UnavailableError after all tries.
        """
        coming = _PendingFetch(location, etag, changed)
        with self._lock:
            self._waiting.append(coming)
            self._start_waiting()
        return partial(self._await_fetch, coming)

    def _await_fetch(self, coming: _PendingFetch) -> bytes:
        with self._lock:
            if coming.future is None:
                self._waiting.remove(coming)
                self._start_fetch(coming)
            future = coming.future
        assert future is not None, "it is under way"
        with _map_object_errors():
            got = future.result()
        with self._lock:
            self._held -= len(got.data)
            self._start_waiting()
        if coming.etag is not None and got.etag is not None and got.etag != coming.etag:
            coming.changed()
        return got.data

    def _start_waiting(self) -> None:
        while self._waiting and self._under_way < self._most_requests and self._held < self._most_bytes:
            self._start_fetch(self._waiting.popleft())

    def _start_fetch(self, coming: _PendingFetch) -> None:
        self._under_way += 1
        coming.future = future = _begin_fetch(coming.location, self._reach)
        future.add_done_callback(self._finish_fetch)

    def _finish_fetch(self, future: Future[GetResult]) -> None:
        with self._lock:
            self._under_way -= 1
            if future.exception() is None:
                self._held += len(future.result().data)
            self._start_waiting()


def download_to_file(location: bytes, storage: StorageOptions, target: io.BufferedWriter) -> None:
    """Copy an object into a local file."""
    blob = RemoteBlob(location, storage)
    for start in range(0, blob.byte_size(), 16 << 20):
        target.write(blob.read_range(start, 16 << 20))


def _begin_fetch(location: bytes, reach: FetchOptions) -> Future[GetResult]:
    """Images of the web are fetched by an event loop, objects by a thread of the pool each."""
    if is_http(location):
        return http.start_get_image(location, reach.http, reach.max_bytes)
    return _fetch_thread_pool(os.getpid()).submit(_get_object, location, reach)


def _get_object(location: bytes, reach: FetchOptions) -> GetResult:
    bucket, key = _bucket_and_key(location, reach.storage)
    return bucket.get_object(key, min(reach.max_bytes or MAX_IMAGE_BYTES, MAX_IMAGE_BYTES))


def _bucket_and_key(location: bytes, storage: StorageOptions) -> tuple[Bucket, str]:
    scheme, _, rest = os.fsdecode(location).partition("://")
    name, _, key = rest.partition("/")
    return open_bucket(Location(f"{scheme}://{name}", storage)), key


@lru_cache(maxsize=1)
def _fetch_thread_pool(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch")


@contextmanager
def _map_object_errors() -> Iterator[None]:
    """Say of one object what the storage says of a request."""
    try:
        yield
    except FileNotFoundError:
        raise ImageError("NotFound", "the object is not there (any more)") from None
    except DeniedError as error:
        raise ImageError(DENIED_TYPE, str(error)) from None
    except TooLargeError as error:
        raise ImageError("TooManyBytes", str(error)) from None
