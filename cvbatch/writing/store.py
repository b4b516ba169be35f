"""The two primitives that a run's state needs: put a whole object, create one only if absent.

Names are relative to the output, with `/` between parts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from cvbatch.errors import AmbiguousError as AmbiguousError
from cvbatch.errors import CorruptionError, OutputError, RunError
from cvbatch.storage.places import Place

TEMPORARY = "_cvbatch/tmp"
_GIVE_UP_AFTER = 300.0
_PAUSE = 1.0
_REFUSALS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})


class Store(Protocol):
    """Objects under one output location."""

    root: str
    """Where it is, as a person would write it."""

    def read(self, name: str) -> bytes:
        """Return an object; raises FileNotFoundError if there is none."""

    def open(self, name: str) -> pa.NativeFile:
        """Open an object for reading at any position; raises FileNotFoundError if there is none.

        Arrow reads in threads of its own, and may let go of a file in one of them while the process ends: a file of
        Python's would be waited for then, and the process aborted.
        """

    def put(self, name: str, data: bytes) -> None:
        """Write an object as a whole, over what was there."""

    def create(self, name: str, data: bytes) -> bool:
        """Write an object only if there is none; False if there is one.

        Raises:
            AmbiguousError: If it cannot be known; the caller repeats with the same bytes.
        """

    def add_file(self, name: str, write: Callable[[str], None]) -> int:
        """Let `write` fill a local path and publish it under a name never used before; returns its size."""

    def sizes(self, folder: str, after: str = "") -> dict[str, int]:
        """Names in a folder (not below it) in order, with their sizes in bytes; empty if there is none.

        Args:
            folder: Its name.
            after: Only names behind this one, which lies in it; what comes before is not even looked at.
        """

    def delete(self, name: str) -> bool:
        """Remove an object; it is fine if there is none. False without the right to."""

    def may_delete(self) -> bool:
        """Whether there is a right to delete."""

    def check(self) -> None:
        """Refuse a place where a run cannot be written, or would not be safe, before any work is done."""


def open_store(output: Place | str) -> Store:
    """Return the store for an output location.

    Args:
        output: Where; a plain path or URI needs no options.
    """
    place = Place.at(output)
    if place.local:
        return LocalStore(place.uri)
    from cvbatch.writing.object_store import ObjectStore  # a local disk needs no clients of object stores

    return ObjectStore(place)


def create_surely(store: Store, name: str, data: bytes) -> bool:
    """Create an object, and repeat with the same bytes for as long as it cannot be known whether that worked.

    Returns:
        False if one is there, which may be this very one, created by a request that seemed to fail.

    Raises:
        RunError: If the store does not recover.
    """
    deadline = time.monotonic() + _GIVE_UP_AFTER
    while True:
        try:
            return store.create(name, data)
        except AmbiguousError as error:
            if time.monotonic() > deadline:
                raise RunError(f"{store.root}/{name} cannot be written: {error}") from None
            time.sleep(_PAUSE)


class LocalStore:
    """A folder on a disk with hard links.

    Nothing ever lies under its final name unless it is whole and on the disk: objects are written to a
    temporary name, synced, and linked (create) or renamed (put) into place.

    Args:
        root: Absolute path.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Local path of an object."""
        return Path(self.root, name)

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            data: bytes = file.read()
            return data

    def open(self, name: str) -> pa.NativeFile:
        try:
            return pa.OSFile(str(self.path(name)))
        except NotADirectoryError:
            raise FileNotFoundError(errno.ENOENT, "no such object", name) from None
        except PermissionError:
            raise OutputError(f"{self.path(name)} cannot be read: permission denied") from None

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
                raise CorruptionError(f"{self.root}/{name} is there already; names are never used twice")
            return os.path.getsize(temporary)

    def sizes(self, folder: str, after: str = "") -> dict[str, int]:
        try:
            names = sorted(name for name in os.listdir(self.path(folder)) if f"{folder}/{name}" > after)
        except FileNotFoundError:
            return {}
        except NotADirectoryError:
            raise OutputError(f"{self.root}: expected a folder, and a file is there; choose another output") from None
        found = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                fact = self.path(f"{folder}/{name}").stat()
                if stat.S_ISREG(fact.st_mode):
                    found[f"{folder}/{name}"] = fact.st_size
        return found

    def delete(self, name: str) -> bool:
        self.path(name).unlink(missing_ok=True)
        return True

    def may_delete(self) -> bool:
        return True

    def check(self) -> None:
        pass

    @contextlib.contextmanager
    def _temporary(self, name: str) -> Iterator[str]:
        folder = self.path(TEMPORARY)
        temporary = folder / uuid.uuid4().hex
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.path(name).parent.mkdir(parents=True, exist_ok=True)
            yield str(temporary)
        except OSError as error:
            if error.errno in _REFUSALS:
                raise OutputError(f"{self.root} cannot be written: {error.strerror}; choose another output") from None
            raise RunError(f"{self.root} cannot be written: {error.strerror or error}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _link(self, temporary: str, name: str) -> bool:
        _sync(temporary)
        try:
            os.link(temporary, self.path(name))
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise OutputError(f"{self.root}: this file system has no hard links; choose another output") from None
        _sync(self.path(name).parent)
        return True


def _sync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
