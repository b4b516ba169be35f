"""The two primitives that a run's state needs: put a whole object, create one only if absent.

Names are relative to the output, with `/` between parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

import pyarrow as pa

from cvbatch.errors import AmbiguousError as AmbiguousError
from cvbatch.errors import RunError
from cvbatch.output.local_store import LocalStore as LocalStore
from cvbatch.storage.location import Location
from cvbatch.system.environment import EnvironmentNumber

_TIMEOUT: Final = EnvironmentNumber("CVBATCH_CREATE_TIMEOUT", 300.0)
"""How many seconds a creation is repeated whose outcome cannot be known."""
_RETRY_PAUSE_SECONDS: Final = EnvironmentNumber("CVBATCH_CREATE_PAUSE", 1.0)
"""Seconds between two tries."""


class Store(Protocol):
    """Objects under one output location."""

    root: str
    """Where it is, as a person would write it."""

    def read_object(self, name: str) -> bytes:
        """Return an object; raises FileNotFoundError if there is none."""

    def open_object(self, name: str) -> pa.NativeFile:
        """Open an object for reading at any position; raises FileNotFoundError if there is none.

        Arrow reads in threads of its own, and may let go of a file in one of them while the process ends: a file of
        Python's would be waited for then, and the process aborted.
        """

    def put_object(self, name: str, data: bytes) -> None:
        """Write an object as a whole, over what was there."""

    def create_object(self, name: str, data: bytes) -> bool:
        """Write an object only if there is none; False if there is one.

        Raises:
            AmbiguousError: If it cannot be known; the caller repeats with the same bytes.
        """

    def add_file(self, name: str, write: Callable[[str], None]) -> int:
        """Let `write` fill a local path and publish it under a name never used before; returns its size."""

    def list_sizes(self, folder: str, after: str = "") -> dict[str, int]:
        """Names in a folder (not below it) in order, with their sizes in bytes; empty if there is none.

        Args:
            folder: Its name.
            after: Only names behind this one, which lies in it; what comes before is not even looked at.
        """

    def delete_object(self, name: str) -> bool:
        """Remove an object; it is fine if there is none. False without the right to."""

    def can_delete(self) -> bool:
        """Whether there is a right to delete."""

    def check_writable(self) -> None:
        """Refuse a place where a run cannot be written, or would not be safe, before any work is done."""


def open_store(output: Location | str) -> Store:
    """Return the store for an output location.

    Args:
        output: Where; a plain path or URI needs no options.
    """
    place = Location.from_path_or_uri(output)
    if place.is_local:
        return LocalStore(place.uri)
    from cvbatch.output.object_store import ObjectStore  # a local disk needs no clients of object stores

    return ObjectStore(place)


def create_with_retries(store: Store, name: str, data: bytes) -> bool:
    """Create an object, and repeat with the same bytes for as long as it cannot be known whether that worked.

    Returns:
        False if one is there, which may be this very one, created by a request that seemed to fail.

    Raises:
        RunError: If the store does not recover.
    """
    deadline = time.monotonic() + _TIMEOUT.current_value
    while True:
        try:
            return store.create_object(name, data)
        except AmbiguousError as error:
            if time.monotonic() >= deadline:
                raise RunError(f"{store.root}/{name} cannot be written: {error}") from None
            time.sleep(_RETRY_PAUSE_SECONDS.current_value)
