"""Folders of truth, on a disk or in a bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cvbatch.storage.buckets import open_bucket
from cvbatch.storage.location import Location
from cvbatch.truth.files import read_truth_bytes


def iter_files(location: Location) -> Iterator[str]:
    """Paths of all files below a folder, relative to it, with slashes.

    Args:
        location: A folder; if it does not exist, it has no files.
    """
    if location.is_local:
        root = Path(location.uri)
        for folder, names, files in os.walk(root, followlinks=True):
            names.sort()
            relative = Path(folder).relative_to(root)
            yield from ((relative / name).as_posix() for name in sorted(files))
        return
    prefix = f"{location.key.rstrip('/')}/" if location.key else ""
    for page in open_bucket(location).list_objects(prefix):
        yield from (key.removeprefix(prefix) for key in page.objects["key"].to_pylist())


def read_file(folder: Location, path: str) -> bytes:
    """Read a file below a folder.

    Args:
        folder: The folder.
        path: As `iter_files` gives it.

    Raises:
        UsageError: If it cannot be read.
    """
    return read_truth_bytes(Location(f"{folder.uri.rstrip('/')}/{path}", folder.options))
