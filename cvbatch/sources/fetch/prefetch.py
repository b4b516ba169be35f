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
from cvbatch.storage.buckets import Bucket, Got, open_bucket
from cvbatch.storage.fetch_options import Reach
from cvbatch.storage.location import SCHEMES, Place
from cvbatch.storage.options import StorageOptions

_AT_ONCE: Final = 48
"""Requests that a process has under way: one takes some 10 ms, of which the processor works for less than 1."""
DENIED: Final = "PermissionDenied"
_MAX_HELD_BYTES: Final = 64 << 20
_STARTS: Final = tuple(f"{scheme}://".encode() for scheme in SCHEMES)
_BLOCK: Final = 1 << 20


def is_remote(location: bytes) -> bool:
    """Whether a location is an object of a bucket."""
    return location.startswith(_STARTS)


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

    def beside(self, name: bytes) -> RemoteBlob:
        """Open another object of the same folder."""
        return RemoteBlob(os.path.join(os.path.dirname(self.location), name), self._storage)


@dataclass(slots=True, eq=False)
class _Coming:
    location: bytes
    etag: str | None
    changed: Callable[[], None]
    future: Future[Got] | None = None
    """Once it is under way."""


class Ahead:
    """Objects and images of the web that are fetched while others are decoded.

    Args:
        reach: How to get there.
        most_requests: How many are under way at most.
        most_bytes: While so many are fetched and not taken yet, nothing more is begun: sizes may be unknown.
    """

    def __init__(self, reach: Reach, *, most_requests: int = _AT_ONCE, most_bytes: int = _MAX_HELD_BYTES) -> None:
        self._reach = reach
        self._most_requests, self._most_bytes = most_requests, most_bytes
        self._lock = threading.RLock()  # a future that is done already calls back at once
        self._waiting: deque[_Coming] = deque()
        self._under_way = 0
        self._held = 0

    def fetch(self, location: bytes, etag: str | None, changed: Callable[[], None]) -> Callable[[], bytes]:
        """Fetch an image as soon as may be.

        Args:
            location: Its URI, exactly.
            etag: Of the version that was planned, if known.
            changed: Called if it is another version.

        Returns:
            A function that waits for its bytes, to be called once; it raises `ImageError` `NotFound`,
            `PermissionDenied` or `TooManyBytes`, what `http.get` raises, or UnavailableError after all tries.
        """
        coming = _Coming(location, etag, changed)
        with self._lock:
            self._waiting.append(coming)
            self._go_on()
        return partial(self._take, coming)

    def _take(self, coming: _Coming) -> bytes:
        with self._lock:
            if coming.future is None:
                self._waiting.remove(coming)
                self._start(coming)
            future = coming.future
        assert future is not None, "it is under way"
        with _named():
            got = future.result()
        with self._lock:
            self._held -= len(got.data)
            self._go_on()
        if coming.etag is not None and got.etag is not None and got.etag != coming.etag:
            coming.changed()
        return got.data

    def _go_on(self) -> None:
        while self._waiting and self._under_way < self._most_requests and self._held < self._most_bytes:
            self._start(self._waiting.popleft())

    def _start(self, coming: _Coming) -> None:
        self._under_way += 1
        coming.future = future = _begin(coming.location, self._reach)
        future.add_done_callback(self._done)

    def _done(self, future: Future[Got]) -> None:
        with self._lock:
            self._under_way -= 1
            if future.exception() is None:
                self._held += len(future.result().data)
            self._go_on()


def download(location: bytes, storage: StorageOptions, target: io.BufferedWriter) -> None:
    """Copy an object into a local file."""
    blob = RemoteBlob(location, storage)
    for start in range(0, blob.size(), 16 << 20):
        target.write(blob.read(start, 16 << 20))


def _begin(location: bytes, reach: Reach) -> Future[Got]:
    """Images of the web are fetched by an event loop, objects by a thread of the pool each."""
    if is_http(location):
        return http.start(location, reach.http, reach.max_bytes)
    return _pool(os.getpid()).submit(_get_object, location, reach)


def _get_object(location: bytes, reach: Reach) -> Got:
    bucket, key = _found(location, reach.storage)
    return bucket.get(key, min(reach.max_bytes or MAX_IMAGE_BYTES, MAX_IMAGE_BYTES))


def _found(location: bytes, storage: StorageOptions) -> tuple[Bucket, str]:
    scheme, _, rest = os.fsdecode(location).partition("://")
    name, _, key = rest.partition("/")
    return open_bucket(Place(f"{scheme}://{name}", storage)), key


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch")


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
