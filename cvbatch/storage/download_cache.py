"""Objects that a machine keeps as files: fetched once, by whichever process needs one first."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cvbatch.errors import CorruptionError, RunError, TooLargeError
from cvbatch.storage.buckets import ObjectHead, open_bucket
from cvbatch.storage.location import Location
from cvbatch.system.cache_files import cache_file_path, lock_cache_file

_FOLDER: Final = "objects"
_BLOCK: Final = 16 << 20


def fetch_newest(place: Location, max_bytes: int) -> tuple[Path, str]:
    """The object as it is now, as a file of this machine, and its sha256.

    Args:
        place: Of the object.
        max_bytes: Nothing larger is fetched.

    Raises:
        FileNotFoundError: If there is none.
        TooLargeError: If it is larger.
        StorageError: If it cannot be had.
        RunError: If it cannot be kept.
    """
    head = open_bucket(place).head_object(place.key)
    if head.size > max_bytes:
        raise TooLargeError(head.size, max_bytes)
    known = cache_file_path(
        _FOLDER, {"uri": place.uri, "endpoint": place.options.endpoint_url, "etag": head.etag}, ".sha256"
    )
    with _download_lock(known):
        if head.etag is not None and known.is_file():
            digest = known.read_text()
            if (path := _cached_file(place, digest)).is_file():
                return path, digest
        part = known.with_suffix(".part")
        digest = _download_object(place, head, part)
        path = _cached_file(place, digest)
        part.replace(path)
        _write_text_file(known, digest)
    return path, digest


def fetch_version(place: Location, sha256: str, max_bytes: int) -> Path:
    """The version with this hash, as a file of this machine; nothing is asked if it is here.

    Args:
        place: Of the object.
        sha256: As `fetch_newest` said, on any machine.
        max_bytes: Nothing larger is fetched.

    Raises:
        CorruptionError: If the object has become another one.
        FileNotFoundError: If there is none any more.
        StorageError: If it cannot be had.
        RunError: If it cannot be kept.
    """
    path = _cached_file(place, sha256)
    if path.is_file():
        return path
    with _download_lock(path):
        if path.is_file():
            return path
        head = open_bucket(place).head_object(place.key)
        if head.size > max_bytes:
            raise TooLargeError(head.size, max_bytes)
        part = path.with_name(f"{path.name}.part")
        found = _download_object(place, head, part)
        if found != sha256:
            part.unlink()
            raise CorruptionError(f"{place}: expected sha256 {sha256}, got {found}: it has changed since the start")
        part.replace(path)
    return path


def _cached_file(place: Location, sha256: str) -> Path:
    return cache_file_path(_FOLDER, {"uri": place.uri, "sha256": sha256}, Path(place.key).suffix)


@contextmanager
def _download_lock(path: Path) -> Iterator[None]:
    """One process of this machine at a time; those that wait find the file."""
    try:
        with lock_cache_file(path):
            yield
    except FileNotFoundError:
        raise
    except OSError as error:
        why = error.strerror or error
        raise RunError(f"{path.parent} cannot be written: {why}; XDG_CACHE_HOME names another") from None


def _download_object(place: Location, head: ObjectHead, target: Path) -> str:
    """Write an object to a file; returns its sha256."""
    bucket, digest = open_bucket(place), hashlib.sha256()
    with target.open("wb") as file:
        for start in range(0, head.size, _BLOCK):
            data = bucket.get_range(place.key, start, min(_BLOCK, head.size - start), etag=head.etag)
            digest.update(data)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _write_text_file(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)
