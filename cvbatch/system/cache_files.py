"""Cache files of this machine: measurements and compiled networks for later runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock


def cache_file_path(folder: str, key: Mapping[str, Any], suffix: str) -> Path:
    """Return the path of a cache file below `$XDG_CACHE_HOME/cvbatch`, without creating anything.

    Args:
        folder: Folder of this kind of file.
        key: Everything that the content depends on, as plain data.
        suffix: Of the file.
    """
    cache_root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_root / "cvbatch" / folder / f"{digest}{suffix}"


@contextmanager
def lock_cache_file(file: Path) -> Iterator[None]:
    """Lock a cache file for this process and create its folder; check for the file again once the lock is held.

    Raises:
        OSError: If the folder is not writable.
    """
    make_cache_folder(file)
    with FileLock(f"{file}.lock"):
        yield


@contextmanager
def atomic_write_path(file: Path) -> Iterator[Path]:
    """Yield a temporary path, which is renamed to the file on success and removed on failure."""
    temporary_file = file.with_name(f"{file.stem}.{os.getpid()}{file.suffix}")
    try:
        yield temporary_file
        temporary_file.replace(file)
    finally:
        temporary_file.unlink(missing_ok=True)


def make_cache_folder(file: Path) -> None:
    """Create the folder of a cache file with access for this user alone, as compiled networks are executed."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
