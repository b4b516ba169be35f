"""Reading of one local file."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from cvbatch.errors import ImageError

_FILE_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)
_OPEN_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def read_local(path: bytes, *, max_bytes: int | None = None) -> bytes:
    """Read a regular file; others are never opened, as opening a FIFO or a device can block or have side effects.

    Args:
        path: Exact path; links are followed.
        max_bytes: Larger files are not read.

    Raises:
        ImageError: `NoLocation`, `NotLocal`, `NotFound`, `LinkLoop`, `PermissionDenied`, `NotARegularFile` or
            `TooManyBytes`.
        OSError: Any other error of the file system.
    """
    with open(open_local(path, max_bytes=max_bytes), "rb", buffering=0) as file:
        return file.read() if max_bytes is None else _read_at_most(file.fileno(), max_bytes)


def open_local(path: bytes, *, max_bytes: int | None = None) -> int:
    """Open a regular file for reading, with the checks of `read_local`; returns its descriptor."""
    if not path:
        raise ImageError("NoLocation", "the manifest gives no uri for this line")
    if not path.startswith(b"/") and b"://" in path:
        scheme = path.partition(b":")[0].decode("utf-8", errors="backslashreplace")
        raise ImageError("NotLocal", f"{scheme}:// cannot be read: expected a local file")
    try:
        _check_regular_file(os.stat(path), max_bytes)
        descriptor = os.open(path, _OPEN_FLAGS)
        try:
            # the file can be replaced between `stat` and `open`
            _check_regular_file(os.fstat(descriptor), max_bytes)
        except ImageError:
            os.close(descriptor)
            raise
    except OSError as error:
        image_error = _image_error_of(path, error)
        if image_error is None:
            raise
        try:
            raise image_error from error
        finally:
            del image_error  # breaks a reference cycle that would keep this frame and the open files of the callers
    return descriptor


def _check_regular_file(file_stat: os.stat_result, max_bytes: int | None) -> None:
    if not stat.S_ISREG(file_stat.st_mode):
        kind = next((name for is_kind, name in _FILE_KINDS if is_kind(file_stat.st_mode)), "something else")
        raise ImageError("NotARegularFile", f"expected a file, got {kind}")
    if max_bytes is not None and file_stat.st_size > max_bytes:
        raise too_many_bytes_error(file_stat.st_size, max_bytes)


def _read_at_most(descriptor: int, max_bytes: int) -> bytes:
    """Read to the end; refuse a file that grows beyond the limit meanwhile."""
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise too_many_bytes_error(len(data), max_bytes)
    return data


def too_many_bytes_error(size: int, max_bytes: int) -> ImageError:
    """Error for an image with too many bytes."""
    return ImageError("TooManyBytes", f"expected at most {max_bytes} bytes, got {size}")


def _image_error_of(path: bytes, error: OSError) -> ImageError | None:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR if os.path.islink(path):
            target = os.readlink(path).decode("utf-8", errors="backslashreplace")
            return ImageError("NotFound", f"broken symbolic link to {target}")
        case errno.ENOENT | errno.ENOTDIR:
            return ImageError("NotFound", "the file does not exist (any more)")
        case errno.ELOOP:
            return ImageError("LinkLoop", "symbolic links that lead back to themselves")
        case errno.EACCES | errno.EPERM:
            return ImageError("PermissionDenied", "no permission to read the file")
    return None
