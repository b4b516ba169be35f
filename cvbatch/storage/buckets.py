"""Access to buckets of S3, Google Cloud Storage and Azure.

All requests except `create_object` are retried a limited number of times, for about a minute.
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
    from obstore import Attributes, GetOptions

T = TypeVar("T")

_SMALL_OBJECT_BYTES: Final = 4 << 20
"""Objects up to this size in bytes are read whole when they are opened."""
_RANDOM_BUFFER: Final = 256 << 10
_STREAM_BUFFER: Final = 16 << 20
_PART_BYTES: Final = 16 << 20
_UNDECIDED: Final = frozenset({"ConditionalRequestConflict", "OperationAborted"})
"""S3 codes for a conditional request that conflicted with another one; possibly neither of them took effect."""


@dataclass(frozen=True, slots=True)
class GetResult:
    """Content and version of an object."""

    data: bytes
    etag: str | None
    """ETag, spelled as in listings."""


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """Metadata of an object."""

    size: int
    """Bytes."""
    etag: str | None
    last_modified: datetime


def open_bucket(location: Location) -> Bucket:
    """Return the bucket of a location; each process opens a bucket once.

    Raises:
        DeniedError: If this machine has no credentials.
        JobError: If this machine does not have the requested profile.
    """
    return _open_cached_bucket(Location(f"{location.scheme}://{location.bucket}", location.options), os.getpid())


class Bucket:
    """One bucket or container; made by `open_bucket`.

    All methods are safe in threads. They raise FileNotFoundError if there is no such object, DeniedError without the
    right to do it, UnavailableError if there was no usable response after all tries, and StorageError otherwise.

    Args:
        place: Location with the name of the bucket.
        part_bytes: Larger files are uploaded in parts of this size; S3 requires at least 5 MiB.
    """

    def __init__(self, location: Location, *, part_bytes: int = _PART_BYTES) -> None:
        self._part_bytes = part_bytes
        self.uri = location.uri
        self._name = location.bucket
        self._access: S3Access | None = None
        self._pages: Callable[..., Iterator[ListingPage]]
        with map_storage_errors(self.uri):
            if location.scheme == "s3":
                self._access = find_s3_access(location.bucket, location.options)
                capture_raw_listings(self._access.client)
            self._client = make_client(location, self._access, retries=True)
            self._once = make_client(location, self._access, retries=False)
        if self._access is None:
            self._pages = partial(list_obstore_pages, self._client)
        else:
            self._pages = partial(list_s3_pages, self._access.client, self._name)

    def get_object(self, key: str, max_bytes: int | None = None) -> GetResult:
        """Read a whole object.

        Args:
            key: Exactly as listed.
            max_bytes: Size limit.

        Raises:
            TooLargeError: If the object is larger than `max_bytes`; it is not read.
        """
        return self._with_retries(key, lambda: self._get_bytes(key, max_bytes))

    def get_range(self, key: str, start: int, length: int, *, etag: str | None = None) -> bytes:
        """Read a range of an object; the result is shorter than `length` only at the end of the object.

        Args:
            key: Exactly as listed.
            start: Position of the first byte.
            length: Number of bytes, at least 1.
            etag: Version to read; StorageError if the object has changed since.
        """
        return self._with_retries(key, lambda: self._get_range_bytes(key, (start, start + length), etag))

    def open_object(self, key: str) -> BinaryIO:
        """Open an object for reading at arbitrary positions."""
        return self._open_reader(key, _RANDOM_BUFFER)

    def stream_object(self, key: str) -> BinaryIO:
        """Open a large object for sequential reading; the stream can seek, too."""
        return self._open_reader(key, _STREAM_BUFFER)

    def head_object(self, key: str) -> ObjectHead:
        """Return the metadata of an object."""
        return self._with_retries(key, lambda: self._head_once(key))

    def put_object(self, key: str, data: bytes, media_type: str | None = None) -> None:
        """Write an object; replaces an existing one.

        Args:
            key: Of the object.
            data: Its content.
            media_type: Such as `text/html; charset=utf-8`: what the service says to a browser that opens the object.
        """
        about: Attributes | None = {"Content-Type": media_type} if media_type else None
        self._write_object(key, lambda: obstore.put(self._client, key, data, attributes=about, use_multipart=False))

    def create_object(self, key: str, data: bytes) -> bool:
        """Write an object only if there is none; False if there is one.

        This sends a single request. If a caller repeats it after an AmbiguousError and gets False, the existing object
        may be its own; to find out, read the object.

        Raises:
            AmbiguousError: If the outcome is unknown, since there was no response or a response that does not tell.
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
                raise AmbiguousError(f"{self._object_uri(key)}: another request is writing it now") from None
            return False
        return True

    def upload_file(self, key: str, local: str) -> None:
        """Write a local file as an object, atomically; replaces an existing one."""
        self._write_object(key, lambda: self._upload_once(key, Path(local)))

    def delete_object(self, key: str) -> None:
        """Delete an object, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            self._with_retries(key, lambda: obstore.delete(self._client, key))

    def list_objects(
        self, prefix: str, *, start_after: str | None = None, one_level: bool = False
    ) -> Iterator[ListingPage]:
        """List the keys with a prefix, page by page, in the order of the service.

        Args:
            prefix: May end anywhere in a name.
            start_after: List only keys after this one.
            one_level: List only objects without a further slash, and the prefixes of the next level as folders.
        """
        with map_storage_errors(self._object_uri(prefix)):
            yield from self._pages(prefix, start_after=start_after, one_level=one_level)

    def list_level(self, prefix: str, start_after: str | None = None) -> pa.Table:
        """List the objects of one level: those without a further slash.

        Args:
            prefix: Usually ends with a slash, or is empty.
            start_after: List only keys after this one.

        Returns:
            A table of `listing.SCHEMA`.
        """
        pages = self.list_objects(prefix, start_after=start_after, one_level=True)
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
            raise StorageError(
                f"{self.uri}: expected a key without empty or . parts and control characters; only S3 supports others"
            )
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
            # the response to the end of the multipart upload was lost, and the repeated request found no such upload;
            # the object shows whether the first request succeeded
            with contextlib.suppress(FileNotFoundError):
                if self._head_once(key).size == path.stat().st_size:
                    return
            raise UnavailableError(f"{self._object_uri(key)}: the upload failed; try again") from None

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
def _open_cached_bucket(location: Location, process: int) -> Bucket:
    """Cache buckets by process id, since a forked process must not share connections with its parent."""
    return Bucket(location)
