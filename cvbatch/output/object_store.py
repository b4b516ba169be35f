"""The store of a run in a bucket: `If-None-Match: *` does what a hard link does on a local disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Final

import pyarrow as pa

from cvbatch.errors import DeniedError, OutputError, RunError
from cvbatch.storage.buckets import open_bucket
from cvbatch.storage.capabilities import can_delete_objects, check_exclusive_create
from cvbatch.storage.location import Location
from cvbatch.storage.unusual_keys import is_plain_key

_CREATE_PROOF: Final = "_cvbatch/created-once"
"""Small object whose creation proves that this service creates objects only if absent."""


class ObjectStore:
    """Objects below a prefix of a bucket.

    Args:
        place: The bucket and the prefix.

    Raises:
        OutputError: If the prefix has empty parts or control characters, which obstore cannot name.
        DeniedError: If this machine has no credentials.
    """

    def __init__(self, location: Location) -> None:
        prefix = location.key.rstrip("/")
        if prefix and not is_plain_key(prefix):
            raise OutputError(
                f"{location}: expected an output without // and control characters; choose another output"
            )
        self.root = str(location).rstrip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self.place = location
        self._bucket = open_bucket(location)

    def __reduce__(self) -> tuple[type[ObjectStore], tuple[Location]]:
        """Pickle only the location; another process opens the bucket with its own credentials."""
        return ObjectStore, (self.place,)

    def read_object(self, name: str) -> bytes:
        return self._bucket.get_object(self._prefix + name).data

    def open_object(self, name: str) -> pa.NativeFile:
        return pa.PythonFile(self._bucket.open_object(self._prefix + name), mode="r")

    def put_object(self, name: str, data: bytes) -> None:
        self._bucket.put_object(self._prefix + name, data)

    def create_object(self, name: str, data: bytes) -> bool:
        return self._bucket.create_object(self._prefix + name, data)

    def add_file(self, name: str, write: Callable[[str], None]) -> int:
        """Upload a file without a check that the name is free, since a repeated upload finds its own object."""
        try:
            with tempfile.TemporaryDirectory(prefix="cvbatch-") as folder:
                local = os.path.join(folder, "file")
                write(local)
                self._bucket.upload_file(self._prefix + name, local)
                return os.path.getsize(local)
        except OSError as error:
            folder = tempfile.gettempdir()
            raise RunError(
                f"{folder} cannot be written: {error.strerror or error}; set TMPDIR to another folder"
            ) from error

    def list_sizes(self, folder: str, start_after: str = "") -> dict[str, int]:
        start = f"{self._prefix}{folder}/"
        objects = self._bucket.list_level(start, start_after=self._prefix + start_after if start_after else None)
        pairs = zip(objects["key"].to_pylist(), objects["size"].to_pylist(), strict=True)
        return {key.removeprefix(self._prefix): size for key, size in sorted(pairs) if key != start}

    def delete_object(self, name: str) -> bool:
        try:
            self._bucket.delete_object(self._prefix + name)
        except DeniedError:
            return False
        return True

    def can_delete(self) -> bool:
        return can_delete_objects(self._bucket, f"{self._prefix}_cvbatch/")

    def check_writable(self) -> None:
        check_exclusive_create(self._bucket, self._prefix + _CREATE_PROOF)
