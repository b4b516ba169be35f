"""Where an export is written: a new file or folder on a disk or in a bucket, never seen half written on a disk."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Final, Protocol

from cvbatch.errors import OutputError, RunError, UsageError
from cvbatch.storage.location import Location

_REQUESTS: Final = 16
"""Requests to a bucket at once."""


class ExportTarget(Protocol):
    """A new file, or a folder of new files."""

    @property
    def location(self) -> Location:
        """Where it is being written; a local one that is new gets its name at the end."""

    def open_file(self, name: str = "") -> contextlib.AbstractContextManager[IO[bytes]]:
        """Open a new file for writing.

        Args:
            name: Path below the folder; empty if the target is one file.
        """

    def write_files(self, names: Sequence[str], contents: Sequence[bytes]) -> None:
        """Write many small files.

        Args:
            names: Paths below the folder, all new.
            contents: What each holds.
        """

    @property
    def folder(self) -> str:
        """The folder on this disk that is being filled; what is written there directly becomes part of the export.

        Raises:
            UsageError: If the target is in a bucket.
        """


@dataclass(frozen=True, slots=True)
class _LocalTarget:
    """Writes beside the final place."""

    staged: str
    """The file or folder, under a name of its own."""

    @property
    def location(self) -> Location:
        return Location(self.staged)

    @contextlib.contextmanager
    def open_file(self, name: str = "") -> Iterator[IO[bytes]]:
        path = os.path.join(self.staged, name) if name else self.staged
        if name:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb", buffering=1 << 20) as file:
            yield file

    def write_files(self, names: Sequence[str], contents: Sequence[bytes]) -> None:
        for folder in {os.path.dirname(name) for name in names}:
            os.makedirs(os.path.join(self.staged, folder), exist_ok=True)
        for name, content in zip(names, contents, strict=True):
            with open(os.path.join(self.staged, name), "xb", buffering=0) as file:
                file.write(content)

    @property
    def folder(self) -> str:
        return self.staged


NO_TARGET: Final[ExportTarget] = _LocalTarget("")
"""For who only reads."""


@dataclass(frozen=True, slots=True)
class _BucketTarget:
    """Uploads each file once it is complete."""

    location: Location

    @contextlib.contextmanager
    def open_file(self, name: str = "") -> Iterator[IO[bytes]]:
        from cvbatch.storage.buckets import open_bucket  # only buckets need the clients, which import slowly

        key = f"{self.location.key.rstrip('/')}/{name}" if name else self.location.key
        with tempfile.NamedTemporaryFile(prefix="cvbatch-") as file:
            yield file
            file.flush()
            open_bucket(self.location).upload_file(key, file.name)

    def write_files(self, names: Sequence[str], contents: Sequence[bytes]) -> None:
        from cvbatch.storage.buckets import open_bucket

        bucket, prefix = open_bucket(self.location), self.location.key.rstrip("/")
        with ThreadPoolExecutor(_REQUESTS) as threads:
            list(threads.map(bucket.put_object, [f"{prefix}/{name}" for name in names], contents))

    @property
    def folder(self) -> str:
        raise UsageError(f"{self.location}: expected a local path; this format cannot be written to a bucket directly")


@contextlib.contextmanager
def open_target(location: Location, *, is_folder: bool, may_exist: bool = False) -> Iterator[ExportTarget]:
    """Open a target; a local one gets its name once everything is written, and is removed if anything fails.

    Args:
        location: The new file or folder.
        is_folder: Whether it is a folder.
        may_exist: Whether the exporter changes what is there, in place.

    Raises:
        OutputError: If there is something already.
        RunError: If it cannot be written.
    """
    if not location.is_local:
        _check_free_in_bucket(location, may_exist=may_exist)
        yield _BucketTarget(location)
        return
    final = location.uri.rstrip("/") or "/"
    if may_exist:
        os.makedirs(final, exist_ok=True)
        yield _LocalTarget(final)
        return
    if os.path.lexists(final) and not (is_folder and os.path.isdir(final) and not os.listdir(final)):
        raise OutputError(f"{final} exists: expected a new {'folder' if is_folder else 'file'}; choose another name")
    parent, name = os.path.split(final)
    try:
        os.makedirs(parent, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name[:64]}-", dir=parent) as folder:
            staged = os.path.join(folder, "export")
            if is_folder:
                os.mkdir(staged)
            yield _LocalTarget(staged)
            os.rename(staged, final)
    except OSError as error:
        if error.filename is None or str(error.filename).startswith(parent):
            raise RunError(f"{final} cannot be written: {error.strerror}") from None
        raise


def _check_free_in_bucket(location: Location, *, may_exist: bool) -> None:
    from cvbatch.storage.buckets import open_bucket

    key = location.key.rstrip("/")
    if not key:
        raise OutputError(f"{location}: expected a key below the bucket, such as {str(location).rstrip('/')}/export")
    if may_exist:
        return
    bucket = open_bucket(location)
    has_objects = any(page.objects.num_rows for page in bucket.list_objects(f"{key}/"))
    if has_objects or key in bucket.list_level(key)["key"].to_pylist():
        raise OutputError(f"{location} exists: expected a new file or folder; choose another name")
