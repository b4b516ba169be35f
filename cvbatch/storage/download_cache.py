"""Cache of downloaded objects: the first process of a machine that needs an object fetches it, the others wait."""

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


def fetch_newest(location: Location, max_bytes: int) -> tuple[Path, str]:
    """Return the current version of an object as a local file, and its sha256.

    Args:
        location: Location of the object.
        max_bytes: Size limit.

    Raises:
        FileNotFoundError: If there is no such object.
        TooLargeError: If the object is larger than `max_bytes`.
        StorageError: If the object cannot be fetched.
        RunError: If the cache cannot be written.
    """
    head = open_bucket(location).head_object(location.key)
    if head.size > max_bytes:
        raise TooLargeError(head.size, max_bytes)
    version = {"uri": location.uri, "endpoint": location.options.endpoint_url, "etag": head.etag}
    digest_file = cache_file_path(_FOLDER, version, ".sha256")
    with _download_lock(digest_file):
        if head.etag is not None and digest_file.is_file():
            digest = digest_file.read_text()
            if (path := _cached_file(location, digest)).is_file():
                return path, digest
        temporary = digest_file.with_suffix(".part")
        digest = _download_object(location, head, temporary)
        path = _cached_file(location, digest)
        temporary.replace(path)
        _write_text_file(digest_file, digest)
    return path, digest


def fetch_version(location: Location, sha256: str, max_bytes: int) -> Path:
    """Return the version of an object with a given hash as a local file; no request is sent if it is cached.

    Args:
        location: Location of the object.
        sha256: Hash that `fetch_newest` returned, on any machine.
        max_bytes: Size limit.

    Raises:
        CorruptionError: If the object has another hash now.
        FileNotFoundError: If the object no longer exists.
        TooLargeError: If the object is larger than `max_bytes`.
        StorageError: If the object cannot be fetched.
        RunError: If the cache cannot be written.
    """
    path = _cached_file(location, sha256)
    if path.is_file():
        return path
    with _download_lock(path):
        if path.is_file():
            return path
        head = open_bucket(location).head_object(location.key)
        if head.size > max_bytes:
            raise TooLargeError(head.size, max_bytes)
        temporary = path.with_name(f"{path.name}.part")
        digest = _download_object(location, head, temporary)
        if digest != sha256:
            temporary.unlink()
            raise CorruptionError(
                f"{location}: expected sha256 {sha256}, got {digest}: it has changed since the run started; "
                "start it again"
            )
        temporary.replace(path)
    return path


def _cached_file(location: Location, sha256: str) -> Path:
    return cache_file_path(_FOLDER, {"uri": location.uri, "sha256": sha256}, Path(location.key).suffix)


@contextmanager
def _download_lock(path: Path) -> Iterator[None]:
    """Let one process of this machine at a time download a file; the others wait, and then find it."""
    try:
        with lock_cache_file(path):
            yield
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"{path.parent} cannot be written: {reason}; set XDG_CACHE_HOME to another folder") from None


def _download_object(location: Location, head: ObjectHead, target: Path) -> str:
    """Download an object to a file, and return its sha256."""
    bucket, digest = open_bucket(location), hashlib.sha256()
    with target.open("wb") as file:
        for start in range(0, head.size, _BLOCK):
            data = bucket.get_range(location.key, start, min(_BLOCK, head.size - start), etag=head.etag)
            digest.update(data)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _write_text_file(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_text(text)
    temporary.replace(path)
