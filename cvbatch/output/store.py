"""The storage interface of a run's output; its state depends on two of the methods: put, and create only if absent.

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

TRAINING_FOLDER: Final = "_cvbatch/training"
"""Where an output of `cvbatch train` differs from one of `cvbatch run`; none is both."""
_TIMEOUT: Final = EnvironmentNumber("CVBATCH_CREATE_TIMEOUT", 300.0)
"""Seconds for which a creation with unknown outcome is repeated."""
_RETRY_PAUSE_SECONDS: Final = EnvironmentNumber("CVBATCH_CREATE_PAUSE", 1.0)
"""Seconds between two attempts."""


class Store(Protocol):
    """Objects under one output location."""

    root: str
    """Path or URI of the output, for messages."""

    def read_object(self, name: str) -> bytes:
        """Return the content of an object; raises FileNotFoundError if there is none."""

    def open_object(self, name: str) -> pa.NativeFile:
        """Open an object for reading at any position; raises FileNotFoundError if there is none.

        It returns a file of Arrow, not of Python: Arrow reads in its own threads, and may release a file in one of them
        while the process exits. A Python file would need the interpreter then, and the process would abort.
        """

    def put_object(self, name: str, data: bytes) -> None:
        """Write a whole object; replaces an existing one."""

    def create_object(self, name: str, data: bytes) -> bool:
        """Write an object only if there is none; False if there is one.

        Raises:
            AmbiguousError: If the outcome is unknown; the caller repeats the call with the same bytes.
        """

    def add_file(self, name: str, write: Callable[[str], None]) -> int:
        """Let `write` fill a local file, and publish it under a name that was never used; returns its size in bytes."""

    def list_sizes(self, folder: str, start_after: str = "") -> dict[str, int]:
        """Sorted names of the objects directly in a folder, with their sizes in bytes; empty without the folder.

        Args:
            folder: Name of the folder.
            start_after: Only names after this one, which is in the folder; earlier names are not read.
        """

    def delete_object(self, name: str) -> bool:
        """Delete an object, if it exists; False without the right to delete."""

    def can_delete(self) -> bool:
        """Whether this job has the right to delete."""

    def check_writable(self) -> None:
        """Check, before any work, that a run can be written safely to this output; raises OutputError if not."""


def open_store(output: Location | str) -> Store:
    """Return the store for an output location.

    Args:
        output: Location, or a plain path or URI if it needs no options.
    """
    place = Location.from_path_or_uri(output)
    if place.is_local:
        return LocalStore(place.uri)
    from cvbatch.output.object_store import ObjectStore  # only buckets need the clients, which import slowly

    return ObjectStore(place)


def create_with_retries(store: Store, name: str, data: bytes) -> bool:
    """Create an object, and repeat with the same bytes while the outcome is unknown.

    Returns:
        False if an object exists; it may be this very one, created by an earlier request that seemed to fail.

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
