"""Reading of remote files: concurrent prefetch of whole images, and ranges of containers in a bucket."""

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
from cvbatch.sources.fetch.url_policy import is_http
from cvbatch.storage.buckets import Bucket, GetResult, open_bucket
from cvbatch.storage.fetch_options import FetchOptions
from cvbatch.storage.location import SCHEMES, Location
from cvbatch.storage.options import StorageOptions

_AT_ONCE: Final = 48
"""Concurrent requests of a process: each takes about 10 ms, and less than 1 ms of CPU time."""
DENIED_TYPE: Final = "PermissionDenied"
_MAX_HELD_BYTES: Final = 64 << 20
_REMOTE_PREFIXES: Final = tuple(f"{scheme}://".encode() for scheme in SCHEMES)
_BLOCK: Final = 1 << 20


def is_remote(location: bytes) -> bool:
    """Whether a location is an object of a bucket."""
    return location.startswith(_REMOTE_PREFIXES)


class RemoteBlob:
    """An object of a bucket, read in ranges; all reads are of the version at the time of opening.

    Args:
        location: Exact URI.
        storage: Options for reading objects.

    Raises:
        ImageError: `NotFound` or `PermissionDenied`.
        UnavailableError: If there is no response after all tries.
    """

    block = _BLOCK

    def __init__(self, location: bytes, storage: StorageOptions) -> None:
        self.location = location
        self._storage = storage
        self._bucket, self._key = _bucket_and_key(location, storage)
        with _map_object_errors():
            self._head = self._bucket.head_object(self._key)

    def byte_size(self) -> int:
        """Size of the object in bytes."""
        return self._head.size

    def read_range(self, start: int, length: int) -> bytes:
        """Read `length` bytes; fewer only at the end of the object."""
        length = min(length, self._head.size - start)
        if length <= 0:
            return b""
        with _map_object_errors():
            return self._bucket.get_range(self._key, start, length, etag=self._head.etag)

    def open_stream(self) -> BinaryIO:
        """Open a stream that reads once from beginning to end."""
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
    """Set when the fetch is started."""


class Prefetcher:
    """Fetches objects and web images while others are decoded.

    Args:
        options: Options for fetching image bytes.
        max_requests: Maximum number of concurrent requests.
        max_bytes: While this many fetched bytes are not consumed, no new request starts; sizes can be unknown.
    """

    def __init__(
        self, options: FetchOptions, *, max_requests: int = _AT_ONCE, max_bytes: int = _MAX_HELD_BYTES
    ) -> None:
        self._options = options
        self._max_requests, self._max_held_bytes = max_requests, max_bytes
        self._lock = threading.RLock()  # a finished future calls back immediately
        self._pending: deque[_PendingFetch] = deque()
        self._active_requests = 0
        self._held_bytes = 0

    def prefetch_image(self, location: bytes, etag: str | None, changed: Callable[[], None]) -> Callable[[], bytes]:
        """Fetch an image as soon as possible.

        Args:
            location: Exact URI.
            etag: ETag of the planned version, if known.
            changed: Called if the version differs.

        Returns:
            A function that waits for the bytes, to be called once. It raises `ImageError` `NotFound`,
            `PermissionDenied` or `TooManyBytes`, the errors of `http.get_image`, or UnavailableError after all
            tries.
        """
        pending_fetch = _PendingFetch(location, etag, changed)
        with self._lock:
            self._pending.append(pending_fetch)
            self._start_waiting()
        return partial(self._await_fetch, pending_fetch)

    def _await_fetch(self, pending_fetch: _PendingFetch) -> bytes:
        with self._lock:
            if pending_fetch.future is None:
                self._pending.remove(pending_fetch)
                self._start_fetch(pending_fetch)
            future = pending_fetch.future
        assert future is not None, "the fetch is started"
        with _map_object_errors():
            result = future.result()
        with self._lock:
            self._held_bytes -= len(result.data)
            self._start_waiting()
        if pending_fetch.etag is not None and result.etag is not None and result.etag != pending_fetch.etag:
            pending_fetch.changed()
        return result.data

    def _start_waiting(self) -> None:
        while self._pending and self._active_requests < self._max_requests and self._held_bytes < self._max_held_bytes:
            self._start_fetch(self._pending.popleft())

    def _start_fetch(self, pending_fetch: _PendingFetch) -> None:
        self._active_requests += 1
        pending_fetch.future = future = _begin_fetch(pending_fetch.location, self._options)
        future.add_done_callback(self._finish_fetch)

    def _finish_fetch(self, future: Future[GetResult]) -> None:
        if future.cancelled():
            return  # the web client is closing
        with self._lock:
            self._active_requests -= 1
            if future.exception() is None:
                self._held_bytes += len(future.result().data)
            self._start_waiting()


def download_to_file(location: bytes, storage: StorageOptions, target: io.BufferedWriter) -> None:
    """Copy an object into a local file."""
    blob = RemoteBlob(location, storage)
    for start in range(0, blob.byte_size(), 16 << 20):
        target.write(blob.read_range(start, 16 << 20))


def _begin_fetch(location: bytes, options: FetchOptions) -> Future[GetResult]:
    """Start a fetch: web images in the event loop, objects in a thread of the pool."""
    if is_http(location):
        from cvbatch.sources.fetch import http  # aiohttp takes 0.1 s to import, in every process

        return http.start_get_image(location, options.http, options.max_bytes)
    return _fetch_thread_pool(os.getpid()).submit(_get_object, location, options)


def _get_object(location: bytes, options: FetchOptions) -> GetResult:
    bucket, key = _bucket_and_key(location, options.storage)
    return bucket.get_object(key, min(options.max_bytes or MAX_IMAGE_BYTES, MAX_IMAGE_BYTES))


def _bucket_and_key(location: bytes, storage: StorageOptions) -> tuple[Bucket, str]:
    scheme, _, path = os.fsdecode(location).partition("://")
    name, _, key = path.partition("/")
    return open_bucket(Location(f"{scheme}://{name}", storage)), key


@lru_cache(maxsize=1)
def _fetch_thread_pool(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch")


@contextmanager
def _map_object_errors() -> Iterator[None]:
    """Translate errors of the storage into errors of one image."""
    try:
        yield
    except FileNotFoundError:
        raise ImageError("NotFound", "the object does not exist (any more)") from None
    except DeniedError as error:
        raise ImageError(DENIED_TYPE, str(error)) from None
    except TooLargeError as error:
        raise ImageError("TooManyBytes", str(error)) from None
