"""A bucket, and what one can do with it: the one way to S3, Google Cloud Storage and Azure.

Everything is tried again a bounded number of times, for a minute or so; only `create` is not.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

import obstore
import pyarrow as pa
from obstore.exceptions import AlreadyExistsError

from cvbatch.errors import AmbiguousError, StorageError, TooLargeError, UnavailableError
from cvbatch.storage.clients import make_client
from cvbatch.storage.error_mapping import status_of, translated
from cvbatch.storage.interruptible import aside
from cvbatch.storage.listing import SCHEMA, Page, other_pages, prepare, s3_pages
from cvbatch.storage.location import Place
from cvbatch.storage.range_reader import RangeReader
from cvbatch.storage.retry import patiently
from cvbatch.storage.s3_access import Access, access
from cvbatch.storage.unusual_keys import is_plain, look_exactly, read_exactly

if TYPE_CHECKING:
    from obstore import GetOptions

T = TypeVar("T")

_SMALL: Final = 4 << 20
"""Objects up to this size are read whole when they are opened."""
_RANDOM_BUFFER: Final = 256 << 10
_STREAM_BUFFER: Final = 16 << 20
_PART_BYTES: Final = 16 << 20
_UNDECIDED: Final = frozenset({"ConditionalRequestConflict", "OperationAborted"})
"""Codes with which S3 says that a conditional request met another one: neither of them need have won."""


@dataclass(frozen=True, slots=True)
class Got:
    """An object."""

    data: bytes
    etag: str | None
    """As listings have it."""


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of an object without reading it."""

    size: int
    etag: str | None
    last_modified: datetime


def open_bucket(place: Place) -> Bucket:
    """Return the bucket of a place; each process makes it once.

    Raises:
        DeniedError: If this machine has no credentials.
        JobError: If it has no such profile.
    """
    return _open(Place(f"{place.scheme}://{place.bucket}", place.options), os.getpid())


class Bucket:
    """One bucket or container; made by `open_bucket`.

    All methods may be called from many threads at once. They raise FileNotFoundError where there is no object,
    DeniedError without the right, UnavailableError where there was no usable answer after all tries, and
    StorageError for anything else.

    Args:
        place: Names it.
        part_bytes: Larger files are uploaded in parts of this size; S3 takes no parts below 5 MiB.
    """

    def __init__(self, place: Place, *, part_bytes: int = _PART_BYTES) -> None:
        self._part_bytes = part_bytes
        self.uri = place.uri
        self._name = place.bucket
        self._access: Access | None = None
        self._pages: Callable[..., Iterator[Page]]
        with translated(self.uri):
            if place.scheme == "s3":
                self._access = access(place.bucket, place.options)
                prepare(self._access.client)
            self._client = make_client(place, self._access, retries=True)
            self._once = make_client(place, self._access, retries=False)
        if self._access is None:
            self._pages = partial(other_pages, self._client)
        else:
            self._pages = partial(s3_pages, self._access.client, self._name)

    def get(self, key: str, max_bytes: int | None = None) -> Got:
        """Read a whole object.

        Args:
            key: Exactly as listed.
            max_bytes: Nothing larger is read.

        Raises:
            TooLargeError: If it is larger.
        """
        return self._do(key, lambda: self._get(key, max_bytes))

    def get_range(self, key: str, start: int, length: int, *, etag: str | None = None) -> bytes:
        """Read a part of an object; less than `length` only at its end.

        Args:
            key: Exactly as listed.
            start: First byte, in the object.
            length: Number of bytes, at least 1.
            etag: Only of this version.
        """
        return self._do(key, lambda: self._range(key, (start, start + length), etag))

    def open(self, key: str) -> BinaryIO:
        """Open an object for reading here and there."""
        return self._file(key, _RANDOM_BUFFER)

    def stream(self, key: str) -> BinaryIO:
        """Open a large object for reading from front to back; one may seek, too."""
        return self._file(key, _STREAM_BUFFER)

    def head(self, key: str) -> Head:
        """Look at an object."""
        return self._do(key, lambda: self._head(key))

    def put(self, key: str, data: bytes) -> None:
        """Write an object, over what was there."""
        self._write(key, lambda: obstore.put(self._client, key, data, use_multipart=False))

    def create(self, key: str, data: bytes) -> bool:
        """Write an object only if there is none; False if there is one.

        This is one single request. Whoever repeats it after an AmbiguousError may be told that there is one, and it
        is one's own: reading it back tells.

        Raises:
            AmbiguousError: If it cannot be known: there was no answer, or one that leaves it open.
        """
        try:
            with translated(self._uri(key)):
                aside(lambda: obstore.put(self._once, key, data, mode="create", use_multipart=False))
        except UnavailableError as error:
            raise AmbiguousError(str(error)) from None
        except FileNotFoundError:
            raise self._no_bucket() from None
        except AlreadyExistsError as error:
            if status_of(error)[1] in _UNDECIDED:
                raise AmbiguousError(f"{self._uri(key)}: another request for it is under way") from None
            return False
        return True

    def upload(self, key: str, local: str) -> None:
        """Write a local file as an object, over what was there; it appears whole or not at all."""
        self._write(key, lambda: self._upload(key, Path(local)))

    def delete(self, key: str) -> None:
        """Remove an object; it is fine if there is none."""
        with contextlib.suppress(FileNotFoundError):
            self._do(key, lambda: obstore.delete(self._client, key))

    def list(self, prefix: str, *, after: str | None = None, one_level: bool = False) -> Iterator[Page]:
        """List what begins with a prefix, page by page, in the order of the service.

        Args:
            prefix: May end anywhere in a name.
            after: Go on after this key.
            one_level: Only the objects up to the next slash, and the prefixes that lead further down.
        """
        with translated(self._uri(prefix)):
            yield from self._pages(prefix, after=after, one_level=one_level)

    def level(self, prefix: str, after: str | None = None) -> pa.Table:
        """The objects of one level: those without a further slash.

        Args:
            prefix: As a rule it ends with a slash, or is empty.
            after: Go on after this key.

        Returns:
            A table of `listing.SCHEMA`.
        """
        pages = self.list(prefix, after=after, one_level=True)
        return pa.Table.from_batches([page.objects for page in pages], SCHEMA)

    def _uri(self, key: str) -> str:
        return f"{self.uri}/{key}"

    def _do(self, key: str, work: Callable[[], T]) -> T:
        return patiently(self._uri(key), lambda: aside(work))

    def _write(self, key: str, work: Callable[[], object]) -> None:
        try:
            self._do(key, work)
        except FileNotFoundError:
            raise self._no_bucket() from None

    def _no_bucket(self) -> StorageError:
        return StorageError(f"{self.uri}: there is no such bucket; create it, or check the location")

    def _exact_client(self) -> Any:
        if self._access is None:
            raise StorageError(f"{self.uri}: a key with //, . or control characters cannot be used here")
        return self._access.client

    def _get(self, key: str, max_bytes: int | None) -> Got:
        if not is_plain(key):
            head = self._head(key)
            _check(head.size, max_bytes)
            return Got(read_exactly(self._exact_client(), self._name, key, None, head.etag), head.etag)
        result = obstore.get(self._client, key)
        _check(result.meta["size"], max_bytes)
        return Got(result.bytes().to_bytes(), result.meta["e_tag"])

    def _range(self, key: str, span: tuple[int, int], etag: str | None) -> bytes:
        if not is_plain(key):
            return read_exactly(self._exact_client(), self._name, key, span, etag)
        options: GetOptions = {"range": span} if etag is None else {"range": span, "if_match": etag}
        return obstore.get(self._client, key, options=options).bytes().to_bytes()

    def _head(self, key: str) -> Head:
        if not is_plain(key):
            return Head(*look_exactly(self._exact_client(), self._name, key))
        meta = obstore.head(self._client, key)
        return Head(meta["size"], meta["e_tag"], meta["last_modified"])

    def _upload(self, key: str, path: Path) -> None:
        try:
            obstore.put(self._client, key, path, chunk_size=self._part_bytes, max_concurrency=4)
        except FileNotFoundError as error:
            if status_of(error)[1] != "NoSuchUpload":
                raise
            # an answer was lost, and its repetition found the upload in parts over: to the good, or not
            with contextlib.suppress(FileNotFoundError):
                if self._head(key).size == path.stat().st_size:
                    return
            raise UnavailableError(f"{self._uri(key)}: the upload came to nothing; try again") from None

    def _file(self, key: str, buffer: int) -> BinaryIO:
        try:
            return io.BytesIO(self.get(key, _SMALL).data)
        except TooLargeError:
            head = self.head(key)
        fetch = partial(self.get_range, key, etag=head.etag)
        return io.BufferedReader(RangeReader(fetch, head.size), buffer)


def _check(size: int, max_bytes: int | None) -> None:
    if max_bytes is not None and size > max_bytes:
        raise TooLargeError(size, max_bytes)


@lru_cache(maxsize=64)
def _open(place: Place, process: int) -> Bucket:
    """A fork must not share connections with its parent."""
    return Bucket(place)
