"""Where this machine keeps what it measured or built for its next runs."""

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
    """Where something is kept, or would be, below `$XDG_CACHE_HOME/cvbatch`; nothing is made.

    Args:
        folder: What kind of thing it is.
        key: Everything that it depends on, as plain data.
        suffix: Of the file.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return home / "cvbatch" / folder / f"{digest}{suffix}"


@contextmanager
def lock_cache_file(file: Path) -> Iterator[None]:
    """Hold a file that is to be kept, and its folder is made: one process at a time, those that wait may find it.

    Raises:
        OSError: If nothing can be kept there.
    """
    make_cache_folder(file)
    with FileLock(f"{file}.lock"):
        yield


@contextmanager
def atomic_write_path(file: Path) -> Iterator[Path]:
    """Where to write what shall be kept: it gets its name when it is whole, and is removed if that fails."""
    part = file.with_name(f"{file.stem}.{os.getpid()}{file.suffix}")
    try:
        yield part
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def make_cache_folder(file: Path) -> None:
    """Make the folder of a file that is to be kept, for this user alone: compiled networks are executed."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
