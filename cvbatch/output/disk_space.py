"""Moves and syncs files on a disk, as far as its file system supports it."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from pathlib import Path
from typing import Final

UNSUPPORTED_ERRNOS: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""Error numbers of file systems for operations that they do not support."""
_FOLDER_SYNC_REFUSED: Final = UNSUPPORTED_ERRNOS | {errno.EBADF, errno.EISDIR, errno.EPERM, errno.EACCES}
HIDDEN_PREFIX: Final = ".cvbatch-"
"""Prefix of files that listings leave out: copies in progress, where the temporary folder is on another disk."""


def move_into_place(temporary: str, target: Path) -> None:
    """Rename a temporary file to its final name, and replace a file of that name."""
    try:
        os.replace(temporary, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # folders of one file system may be on several disks, as with mergerfs
        copy = target.with_name(f"{HIDDEN_PREFIX}{uuid.uuid4().hex}")
        try:
            shutil.copyfile(temporary, copy)
            sync_file(copy)
            os.replace(copy, target)
        finally:
            copy.unlink(missing_ok=True)


def sync_file(path: str | Path) -> None:
    """Write a file's data to the disk, if the file system supports it."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: str | Path) -> None:
    """Write a folder's names to the disk, if the file system supports it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            sync_descriptor(descriptor, _FOLDER_SYNC_REFUSED)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _FOLDER_SYNC_REFUSED:
            raise


def sync_descriptor(descriptor: int, refused: frozenset[int] = UNSUPPORTED_ERRNOS) -> None:
    """Write an open file or folder to the disk, if the file system supports it.

    Args:
        descriptor: File descriptor.
        refused: Error numbers that mean the file system does not support it; they are ignored.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in refused:
            raise
