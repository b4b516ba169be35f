"""The two primitives that a run's state needs: put a whole object, create one only if absent.

`Store` is the seam for object stores. Names are relative to the output, with `/` between parts.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from cvbatch.errors import OutputError

TEMPORARY = "_cvbatch/tmp"


class AmbiguousError(Exception):
    """A request timed out: it may or may not have taken effect."""


class Store(Protocol):
    """Objects under one output location."""

    root: str
    """Where it is, as a person would write it."""

    def read(self, name: str) -> bytes:
        """Return an object; raises FileNotFoundError if there is none."""

    def open(self, name: str) -> BinaryIO:
        """Open an object for reading at any position; raises FileNotFoundError if there is none."""

    def put(self, name: str, data: bytes) -> None:
        """Write an object as a whole, over what was there."""

    def create(self, name: str, data: bytes) -> bool:
        """Write an object only if there is none; False if there is one.

        Raises:
            AmbiguousError: If it cannot be known; the caller repeats with the same bytes.
        """

    def add_file(self, name: str, write: Callable[[str], None]) -> int:
        """Let `write` fill a local path and publish it under a name never used before; returns its size."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Names in a folder (not below it) in order, with their sizes in bytes; empty if there is none."""

    def delete(self, name: str) -> None:
        """Remove an object; it is fine if there is none."""


def open_store(uri: str) -> Store:
    """Return the store for an output location."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return LocalStore(uri)
    if scheme == "file":
        return LocalStore("/" + rest.lstrip("/"))
    raise OutputError(f"output {scheme}://… cannot be written: expected a local folder")


class LocalStore:
    """A folder on a disk with hard links.

    Nothing ever lies under its final name unless it is whole and on the disk: objects are written to a
    temporary name, synced, and linked (create) or renamed (put) into place.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(os.path.expanduser(root))

    def path(self, name: str) -> Path:
        """Local path of an object."""
        return Path(self.root, name)

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def open(self, name: str) -> BinaryIO:
        return self.path(name).open("rb")

    def put(self, name: str, data: bytes) -> None:
        with self._temporary(name) as temporary:
            Path(temporary).write_bytes(data)
            _sync(temporary)
            os.replace(temporary, self.path(name))
            _sync(self.path(name).parent)

    def create(self, name: str, data: bytes) -> bool:
        with self._temporary(name) as temporary:
            Path(temporary).write_bytes(data)
            return self._link(temporary, name)

    def add_file(self, name: str, write: Callable[[str], None]) -> int:
        with self._temporary(name) as temporary:
            write(temporary)
            if not self._link(temporary, name):
                raise FileExistsError(f"{name} was written before")
            return os.path.getsize(temporary)

    def sizes(self, folder: str) -> dict[str, int]:
        try:
            with os.scandir(self.path(folder)) as entries:
                found = {f"{folder}/{entry.name}": entry.stat().st_size for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return {}
        return dict(sorted(found.items()))

    def delete(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _temporary(self, name: str) -> Iterator[str]:
        folder = self.path(TEMPORARY)
        folder.mkdir(parents=True, exist_ok=True)
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        temporary = folder / uuid.uuid4().hex
        try:
            yield str(temporary)
        finally:
            temporary.unlink(missing_ok=True)

    def _link(self, temporary: str, name: str) -> bool:
        _sync(temporary)
        try:
            os.link(temporary, self.path(name))
        except FileExistsError:
            return False
        except PermissionError:
            raise OutputError(f"{self.root}: this file system has no hard links; choose another output") from None
        _sync(self.path(name).parent)
        return True


def _sync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
