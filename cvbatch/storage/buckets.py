"""A bucket, and what one can do with it: the one way to S3, Google Cloud Storage and Azure.

Everything is tried again a bounded number of times, for a minute or so; only `create_object` is not.
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
from cvbatch.storage.error_mapping import http_status_of, map_storage_errors
from cvbatch.storage.interruptible import run_interruptible
from cvbatch.storage.listing import SCHEMA, ListingPage, capture_raw_listings, list_obstore_pages, list_s3_pages
from cvbatch.storage.location import Location
from cvbatch.storage.range_reader import RangeReader
from cvbatch.storage.retry import with_retries
from cvbatch.storage.s3_access import S3Access, find_s3_access
from cvbatch.storage.unusual_keys import head_exact_key, is_plain_key, read_exact_key

if TYPE_CHECKING:
    from obstore import GetOptions

T = TypeVar("T")

_SMALL_OBJECT_BYTES: Final = 4 << 20
"""Objects up to this size are read whole when they are opened."""
_RANDOM_BUFFER: Final = 256 << 10
_STREAM_BUFFER: Final = 16 << 20
_PART_BYTES: Final = 16 << 20
_UNDECIDED: Final = frozenset({"ConditionalRequestConflict", "OperationAborted"})
"""Codes with which S3 says that a conditional request met another one: neither of them need have won."""


@dataclass(frozen=True, slots=True)
class GetResult:
    """An object."""

    data: bytes
    etag: str | None
    """As listings have it."""


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """What is known of an object without reading it."""

    size: int
    etag: str | None
    last_modified: datetime


def open_bucket(place: Location) -> Bucket:
    """Return the bucket of a place; each process makes it once.

    Raises:
        DeniedError: If this machine has no credentials.
        JobError: If it has no such profile.
    """
    return _open_cached_bucket(Location(f"{place.scheme}://{place.bucket}", place.options), os.getpid())


class Bucket:
    """One bucket or container; made by `open_bucket`.

    All methods may be called from many threads at once. They raise FileNotFoundError where there is no object,
    DeniedError without the right, UnavailableError where there was no usable answer after all tries, and
    StorageError for anything else.

    Args:
        place: Names it.
        part_bytes: Larger files are uploaded in parts of this size; S3 takes no parts below 5 MiB.
    """

    def __init__(self, place: Location, *, part_bytes: int = _PART_BYTES) -> None:
        self._part_bytes = part_bytes
        self.uri = place.uri
        self._name = place.bucket
        self._access: S3Access | None = None
        self._pages: Callable[..., Iterator[ListingPage]]
        with map_storage_errors(self.uri):
            if place.scheme == "s3":
                self._access = find_s3_access(place.bucket, place.options)
                capture_raw_listings(self._access.client)
            self._client = make_client(place, self._access, retries=True)
            self._once = make_client(place, self._access, retries=False)
        if self._access is None:
            self._pages = partial(list_obstore_pages, self._client)
        else:
            self._pages = partial(list_s3_pages, self._access.client, self._name)

    def get_object(self, key: str, max_bytes: int | None = None) -> GetResult:
        """Read a whole object.

        Args:
            key: Exactly as listed.
            max_bytes: Nothing larger is read.

        Raises:
            TooLargeError: If it is larger.
        """
        return self._with_retries(key, lambda: self._get_bytes(key, max_bytes))

    def get_range(self, key: str, start: int, length: int, *, etag: str | None = None) -> bytes:
        """Read a part of an object; less than `length` only at its end.

        Args:
            key: Exactly as listed.
            start: First byte, in the object.
            length: Number of bytes, at least 1.
            etag: Only of this version.
        """
        return self._with_retries(key, lambda: self._get_range_bytes(key, (start, start + length), etag))

    def open_object(self, key: str) -> BinaryIO:
        """Open an object for reading here and there."""
        return self._open_reader(key, _RANDOM_BUFFER)

    def stream_object(self, key: str) -> BinaryIO:
        """Open a large object for reading from front to back; one may seek, too."""
        return self._open_reader(key, _STREAM_BUFFER)

    def head_object(self, key: str) -> ObjectHead:
        """Look at an object."""
        return self._with_retries(key, lambda: self._head_once(key))

    def put_object(self, key: str, data: bytes) -> None:
        """Write an object, over what was there."""
        self._write_object(key, lambda: obstore.put(self._client, key, data, use_multipart=False))

    def create_object(self, key: str, data: bytes) -> bool:
        """Write an object only if there is none; False if there is one.

        This is one single request. Whoever repeats it after an AmbiguousError may be told that there is one, and it
        is one's own: reading it back tells.

        Raises:
            AmbiguousError: If it cannot be known: there was no answer, or one that leaves it open.
        """
        try:
            with map_storage_errors(self._object_uri(key)):
                run_interruptible(lambda: obstore.put(self._once, key, data, mode="create", use_multipart=False))
        except UnavailableError as error:
            raise AmbiguousError(str(error)) from None
        except FileNotFoundError:
            raise self._missing_bucket_error() from None
        except AlreadyExistsError as error:
            if http_status_of(error)[1] in _UNDECIDED:
                raise AmbiguousError(f"{self._object_uri(key)}: another request for it is under way") from None
            return False
        return True

    def upload_file(self, key: str, local: str) -> None:
        """Write a local file as an object, over what was there; it appears whole or not at all."""
        self._write_object(key, lambda: self._upload_once(key, Path(local)))

    def delete_object(self, key: str) -> None:
        """Remove an object; it is fine if there is none."""
        with contextlib.suppress(FileNotFoundError):
            self._with_retries(key, lambda: obstore.delete(self._client, key))

    def list_objects(self, prefix: str, *, after: str | None = None, one_level: bool = False) -> Iterator[ListingPage]:
        """List what begins with a prefix, page by page, in the order of the service.

        Args:
            prefix: May end anywhere in a name.
            after: Go on after this key.
            one_level: Only the objects up to the next slash, and the prefixes that lead further down.
        """
        with map_storage_errors(self._object_uri(prefix)):
            yield from self._pages(prefix, after=after, one_level=one_level)

    def list_level(self, prefix: str, after: str | None = None) -> pa.Table:
        """The objects of one level: those without a further slash.

        Args:
            prefix: As a rule it ends with a slash, or is empty.
            after: Go on after this key.

        Returns:
            A table of `listing.SCHEMA`.
        """
        pages = self.list_objects(prefix, after=after, one_level=True)
        return pa.Table.from_batches([page.objects for page in pages], SCHEMA)

    def _object_uri(self, key: str) -> str:
        return f"{self.uri}/{key}"

    def _with_retries(self, key: str, work: Callable[[], T]) -> T:
        return with_retries(self._object_uri(key), lambda: run_interruptible(work))

    def _write_object(self, key: str, work: Callable[[], object]) -> None:
        try:
            self._with_retries(key, work)
        except FileNotFoundError:
            raise self._missing_bucket_error() from None

    def _missing_bucket_error(self) -> StorageError:
        return StorageError(f"{self.uri}: there is no such bucket; create it, or check the location")

    def _exact_key_client(self) -> Any:
        if self._access is None:
            raise StorageError(f"{self.uri}: a key with //, . or control characters cannot be used here")
        return self._access.client

    def _get_bytes(self, key: str, max_bytes: int | None) -> GetResult:
        if not is_plain_key(key):
            head = self._head_once(key)
            _check_size(head.size, max_bytes)
            return GetResult(read_exact_key(self._exact_key_client(), self._name, key, None, head.etag), head.etag)
        result = obstore.get(self._client, key)
        _check_size(result.meta["size"], max_bytes)
        return GetResult(result.bytes().to_bytes(), result.meta["e_tag"])

    def _get_range_bytes(self, key: str, span: tuple[int, int], etag: str | None) -> bytes:
        if not is_plain_key(key):
            return read_exact_key(self._exact_key_client(), self._name, key, span, etag)
        options: GetOptions = {"range": span} if etag is None else {"range": span, "if_match": etag}
        return obstore.get(self._client, key, options=options).bytes().to_bytes()

    def _head_once(self, key: str) -> ObjectHead:
        if not is_plain_key(key):
            return ObjectHead(*head_exact_key(self._exact_key_client(), self._name, key))
        meta = obstore.head(self._client, key)
        return ObjectHead(meta["size"], meta["e_tag"], meta["last_modified"])

    def _upload_once(self, key: str, path: Path) -> None:
        try:
            obstore.put(self._client, key, path, chunk_size=self._part_bytes, max_concurrency=4)
        except FileNotFoundError as error:
            if http_status_of(error)[1] != "NoSuchUpload":
                raise
            # an answer was lost, and its repetition found the upload in parts over: to the good, or not
            with contextlib.suppress(FileNotFoundError):
                if self._head_once(key).size == path.stat().st_size:
                    return
            raise UnavailableError(f"{self._object_uri(key)}: the upload came to nothing; try again") from None

    def _open_reader(self, key: str, buffer: int) -> BinaryIO:
        try:
            return io.BytesIO(self.get_object(key, _SMALL_OBJECT_BYTES).data)
        except TooLargeError:
            head = self.head_object(key)
        fetch = partial(self.get_range, key, etag=head.etag)
        return io.BufferedReader(RangeReader(fetch, head.size), buffer)


def _check_size(size: int, max_bytes: int | None) -> None:
    if max_bytes is not None and size > max_bytes:
        raise TooLargeError(size, max_bytes)


@lru_cache(maxsize=64)
def _open_cached_bucket(place: Location, process: int) -> Bucket:
    """A fork must not share connections with its parent."""
    return Bucket(place)
