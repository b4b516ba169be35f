"""The store of a run in a bucket: `If-None-Match: *` stands for the link of a local disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Final

import pyarrow as pa

from cvbatch.errors import DeniedError, OutputError, RunError
from cvbatch.storage.buckets import open_bucket
from cvbatch.storage.capabilities import check_create, may_delete
from cvbatch.storage.location import Place
from cvbatch.storage.unusual_keys import is_plain

_PROOF: Final = "_cvbatch/created-once"
"""A tiny object that shows that this service creates objects only if absent."""


class ObjectStore:
    """Objects below a prefix of a bucket.

    Args:
        place: The bucket and the prefix.

    Raises:
        OutputError: If names below the prefix could not be told apart.
        DeniedError: If this machine has no credentials.
    """

    def __init__(self, place: Place) -> None:
        prefix = place.key.rstrip("/")
        if prefix and not is_plain(prefix):
            raise OutputError(f"{place}: expected an output without // and control characters; choose another")
        self.root = str(place).rstrip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self.place = place
        self._bucket = open_bucket(place)

    def __reduce__(self) -> tuple[type[ObjectStore], tuple[Place]]:
        """Another process finds its own way, and its own credentials."""
        return ObjectStore, (self.place,)

    def read(self, name: str) -> bytes:
        return self._bucket.get(self._prefix + name).data

    def open(self, name: str) -> pa.NativeFile:
        return pa.PythonFile(self._bucket.open(self._prefix + name), mode="r")

    def put(self, name: str, data: bytes) -> None:
        self._bucket.put(self._prefix + name, data)

    def create(self, name: str, data: bytes) -> bool:
        return self._bucket.create(self._prefix + name, data)

    def add_file(self, name: str, write: Callable[[str], None]) -> int:
        """As the protocol says; an upload may be repeated, so that a name is free is not looked at."""
        try:
            with tempfile.TemporaryDirectory(prefix="cvbatch-") as folder:
                local = os.path.join(folder, "file")
                write(local)
                self._bucket.upload(self._prefix + name, local)
                return os.path.getsize(local)
        except OSError as error:
            where = tempfile.gettempdir()
            raise RunError(f"{where} cannot be written: {error.strerror or error}; TMPDIR names another") from error

    def sizes(self, folder: str, after: str = "") -> dict[str, int]:
        start = f"{self._prefix}{folder}/"
        objects = self._bucket.level(start, after=self._prefix + after if after else None)
        pairs = zip(objects["key"].to_pylist(), objects["size"].to_pylist(), strict=True)
        return {key.removeprefix(self._prefix): size for key, size in sorted(pairs) if key != start}

    def delete(self, name: str) -> bool:
        try:
            self._bucket.delete(self._prefix + name)
        except DeniedError:
            return False
        return True

    def may_delete(self) -> bool:
        return may_delete(self._bucket, f"{self._prefix}_cvbatch/")

    def check(self) -> None:
        check_create(self._bucket, self._prefix + _PROOF)
