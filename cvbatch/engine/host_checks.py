"""Checks of this machine before Ray starts on it: Ray itself waits for minutes or fails without a message."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cvbatch.errors import UsageError
from cvbatch.system.control_group import address_space_limit
from cvbatch.system.ray_compat import SOCKET_PATH

_LONGEST_SOCKET: Final = 107
"""Maximum bytes of the path of a Unix socket (unix(7))."""
_SHORT_FOLDERS: Final = ("/tmp", "/var/tmp", "/dev/shm")
_LEAST_FREE: Final = 100 << 20
"""Bytes for Ray's log files and sockets."""
LEAST_ADDRESS_SPACE: Final = 6_500_000_000
"""Address space in bytes for a process with torch and a small object store; it maps 5.0 GB with torch 2.14."""
_LOOPBACK: Final = "127.0.0.1"
_LOOPBACK_SECONDS: Final = 5.0


def check_host() -> None:
    """Check that Ray can start on this machine.

    Raises:
        UsageError: If it cannot; the message says what to do.
    """
    _check_loopback()
    allowed = address_space_limit()
    if allowed is not None and allowed < LEAST_ADDRESS_SPACE:
        raise UsageError(
            f"each process may use {allowed / 1e9:.1f} GB of address space (ulimit -v), and torch and Ray need "
            f"{LEAST_ADDRESS_SPACE / 1e9:.1f} GB: raise the limit, or run ulimit -v unlimited"
        )


@contextlib.contextmanager
def ray_temporary_folder(
    *, short_folders: Sequence[str] = _SHORT_FOLDERS, least_free: int = _LEAST_FREE
) -> Iterator[str | None]:
    """Yield the folder for Ray's sockets and log files; None where Ray's default folder works.

    The length of a socket's path is limited. If the default folder is too long, a short one is created, and removed
    afterwards.

    Args:
        short_folders: Candidate parents of the short folder.
        least_free: Required free bytes.

    Raises:
        UsageError: If no folder is usable.
    """
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    if len(os.fsencode(usual)) + len(SOCKET_PATH) <= _LONGEST_SOCKET:
        _check_temporary_folder(usual, least_free)
        yield None
        return
    parent = next((folder for folder in short_folders if os.access(folder, os.W_OK | os.X_OK)), None)
    if parent is None:
        raise UsageError(
            f"the temporary folder {usual} is too long for Ray's sockets, and none of {', '.join(short_folders)} is "
            "writable; set TMPDIR to a folder with a path of at most "
            f"{_LONGEST_SOCKET - len(SOCKET_PATH)} bytes"
        )
    _check_temporary_folder(parent, least_free)
    folder = tempfile.mkdtemp(prefix="cvb-", dir=parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_temporary_folder(folder: str, least_free: int) -> None:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"the temporary folder {folder} cannot be used ({(error.strerror or str(error)).lower()}), and Ray needs "
            "one; set TMPDIR to another"
        ) from None
    if free < least_free:
        raise UsageError(
            f"the temporary folder {folder} has {free / 1e6:.0f} MB free, and Ray needs {least_free / 1e6:.0f} MB; "
            "make room, or set TMPDIR to a folder on another disk"
        )


def _check_loopback() -> None:
    """Check the loopback network, over which Ray's processes communicate."""
    try:
        with socket.create_server((_LOOPBACK, 0)) as server:
            socket.create_connection(server.getsockname(), timeout=_LOOPBACK_SECONDS).close()
    except OSError as error:
        raise UsageError(
            f"this machine cannot reach itself at {_LOOPBACK} ({(error.strerror or str(error)).lower()}), and Ray's "
            "processes need it; enable the loopback network with: ip link set lo up"
        ) from None
