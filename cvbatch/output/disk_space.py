"""Names and bytes on a disk, as far as its file system goes."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from pathlib import Path
from typing import Final

UNSUPPORTED_ERRNOS: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""How a file system says that it cannot do something."""
_FOLDER_SYNC_REFUSED: Final = UNSUPPORTED_ERRNOS | {errno.EBADF, errno.EISDIR, errno.EPERM, errno.EACCES}
HIDDEN_PREFIX: Final = ".cvbatch-"
"""What names begin with that are not to be seen: files on their way to a disk that is not that of temporary ones."""


def move_into_place(temporary: str, target: Path) -> None:
    """Give a file a name, over what was there."""
    try:
        os.replace(temporary, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # folders that lie on several disks, as with mergerfs
        beside = target.with_name(f"{HIDDEN_PREFIX}{uuid.uuid4().hex}")
        try:
            shutil.copyfile(temporary, beside)
            sync_file(beside)
            os.replace(beside, target)
        finally:
            beside.unlink(missing_ok=True)


def sync_file(path: str | Path) -> None:
    """Have a file on the disk, where the file system can."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: str | Path) -> None:
    """Have the names in a folder on the disk, where the file system can."""
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
    """Have what is open on the disk, where the file system can."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in refused:
            raise
