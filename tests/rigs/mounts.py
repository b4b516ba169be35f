"""A file system without hard links: a folder mounted once more, with what it refuses.

It is a process of its own, as a file system that is served by the process that uses it can wait for itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Refusals:
    """Which error number a request is answered with; 0 where it is done."""

    link: int = errno.EPERM
    rename_folder: int = 0
    exclusive: int = 0
    """Creating a file only if there is none."""
    sync_folder: int = errno.EINVAL


@contextlib.contextmanager
def mounted(folder: Path, refusals: Refusals) -> Iterator[Path]:
    """Mount a new folder; skips the test where that cannot be done."""
    pytest.importorskip("mfusepy", reason="no FUSE library: apt-get install libfuse2", exc_type=(ImportError, OSError))
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no right to /dev/fuse")
    below, above = folder / "below", folder / "above"
    below.mkdir()
    above.mkdir()
    command = [sys.executable, "-m", __name__, str(below), str(above), *map(str, astuple(refusals))]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        while not os.path.ismount(above):
            if server.poll() is not None:
                pytest.skip(f"cannot mount: {server.stderr and server.stderr.read().strip()[-200:]}")
            time.sleep(0.02)
        yield above
    finally:
        if server.poll() is None:
            subprocess.run(
                ["umount", str(above)] if os.geteuid() == 0 else ["fusermount", "-u", str(above)], check=True
            )
            server.wait(20)
        if server.stderr is not None:
            server.stderr.close()


def _serve(below: str, above: str, refusals: Refusals) -> None:
    import mfusepy

    class Without(mfusepy.Operations):
        use_ns = True

        def _at(self, path: str) -> str:
            return below + path

        def _perhaps(self, number: int) -> None:
            if number:
                raise mfusepy.FuseOSError(number)

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            fact = os.lstat(self._at(path))
            names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid")
            times = {name: getattr(fact, f"{name}_ns") for name in ("st_atime", "st_mtime", "st_ctime")}
            return {**{name: getattr(fact, name) for name in names}, **times}

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", *os.listdir(self._at(path))]

        def mkdir(self, path: str, mode: int) -> None:
            os.mkdir(self._at(path), mode)

        def rmdir(self, path: str) -> None:
            os.rmdir(self._at(path))

        def unlink(self, path: str) -> None:
            os.unlink(self._at(path))

        def link(self, target: str, source: str) -> None:
            self._perhaps(refusals.link)
            os.link(self._at(source), self._at(target))

        def rename(self, old: str, new: str) -> None:
            if os.path.isdir(self._at(old)):
                self._perhaps(refusals.rename_folder)
            os.rename(self._at(old), self._at(new))

        def open(self, path: str, flags: int) -> int:
            return os.open(self._at(path), flags)

        def create(self, path: str, mode: int, fi: int | None = None) -> int:
            flags = fi or os.O_WRONLY | os.O_CREAT
            if flags & os.O_EXCL:
                self._perhaps(refusals.exclusive)
            return os.open(self._at(path), flags | os.O_CREAT, mode)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return os.pread(fh, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            return os.pwrite(fh, data, offset)

        def truncate(self, path: str, length: int, fh: int | None = None) -> None:
            os.truncate(self._at(path) if fh is None else fh, length)

        def chmod(self, path: str, mode: int) -> None:
            os.chmod(self._at(path), mode)

        def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
            os.utime(self._at(path), ns=times)

        def fsync(self, path: str, datasync: int, fh: int) -> None:
            os.fsync(fh)

        def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
            self._perhaps(refusals.sync_folder)

        def release(self, path: str, fh: int) -> None:
            os.close(fh)

    mfusepy.FUSE(Without(), above, foreground=True, default_permissions=True)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], Refusals(*map(int, sys.argv[3:])))
