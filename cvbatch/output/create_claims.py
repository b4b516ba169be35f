"""Claims on names, for disks that support neither hard links nor renames that never replace.

A claim can be made only once and contains the whole content. A process that finds the claim of a dead process publishes
its content. So a reader never sees a partial object, and no process waits for a dead one. The claim is removed once the
object exists; a process that makes a claim after that checks again whether the object exists.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvbatch.errors import AmbiguousError
from cvbatch.output.disk_space import move_into_place, sync_descriptor, sync_file, sync_folder

_TORN_CLAIM_SECONDS: Final = 10.0
"""A partial claim that does not change for this many seconds belongs to a dead process."""
_POLL_SECONDS: Final = 0.25
_PUBLISH_WAIT_SECONDS: Final = 1.0
"""Seconds that the maker of a complete claim has to publish it. Two processes may publish it, but on disks where a
rename over a file is not atomic the file is missing for a moment."""
_PAUSE_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class ClaimKind:
    """One kind of claim."""

    make_claim: Callable[[str, Path], bool]
    """Claims a name for the content of a temporary file; False if another process has claimed it."""
    read_claim: Callable[[Path], bytes | None]
    """Returns the content of a claim; None if the claim no longer exists."""
    release_claim: Callable[[str, Path], None]


def publish_with_claim(kind: ClaimKind, temporary: str, target: Path, claim: Path) -> bool:
    """Publish a temporary file under a name if the name is free, with a claim on the name.

    Returns:
        False if the name is taken.

    Raises:
        AmbiguousError: If the outcome is unknown; the caller repeats the call.
    """
    claim.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return False
    try:
        if not kind.make_claim(temporary, claim):
            _await_publication(kind, temporary, target, claim)
            return False
        try:
            if target.exists():
                # published by a process that found this claim, or by one whose earlier claim is released by now
                return target.read_bytes() == Path(temporary).read_bytes()
            _publish_content(Path(temporary).read_bytes(), temporary, target)
            return True
        finally:
            kind.release_claim(temporary, claim)
    except FileNotFoundError:  # another process has just overwritten the object, or removed the claim
        raise AmbiguousError("another process is writing it, too") from None


def _await_publication(kind: ClaimKind, temporary: str, target: Path, claim: Path) -> None:
    """Wait until the maker of a claim has published its content; publish it here if the maker seems to be dead."""
    deadline = time.monotonic() + _PUBLISH_WAIT_SECONDS
    while not target.exists():
        content = kind.read_claim(claim)
        if content is None:
            raise AmbiguousError("another process is writing it")
        if time.monotonic() > deadline:
            _publish_content(content, temporary, target)
        else:
            time.sleep(_PAUSE_SECONDS)


def remove_claim(claim: Path) -> None:
    """Remove a claim of any process; if several processes do so at once, exactly one succeeds."""
    renamed = claim.with_name(uuid.uuid4().hex)
    with contextlib.suppress(FileNotFoundError):
        os.rename(claim, renamed)
        shutil.rmtree(renamed) if renamed.is_dir() else renamed.unlink()


def _publish_content(content: bytes, temporary: str, target: Path) -> None:
    copy = f"{temporary}.copy"
    try:
        Path(copy).write_bytes(content)
        sync_file(copy)
        if not target.exists():
            move_into_place(copy, target)
        sync_folder(target.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(copy)


def _make_folder_claim(temporary: str, claim: Path) -> bool:
    """Rename a folder with the content to the claim; a rename never replaces a folder that is not empty."""
    folder = f"{temporary}.claim"
    os.mkdir(folder)
    try:
        content_file = os.path.join(folder, os.path.basename(temporary))
        shutil.copyfile(temporary, content_file)
        sync_file(content_file)
        sync_folder(folder)
        os.rename(folder, claim)
        sync_folder(claim.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return True


def _read_folder_claim(claim: Path) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(claim):
            return (claim / name).read_bytes()
    with contextlib.suppress(OSError):
        claim.rmdir()  # its maker has removed the content, but not the folder yet
    return None


def _release_folder_claim(temporary: str, claim: Path) -> None:
    with contextlib.suppress(OSError):
        (claim / os.path.basename(temporary)).unlink()
        claim.rmdir()


def _make_file_claim(temporary: str, claim: Path) -> bool:
    """Create an empty claim, then fill it; a checksum in its first line shows whether it is complete."""
    content = Path(temporary).read_bytes()
    claim_bytes = f"{hashlib.sha256(content).hexdigest()} {os.path.basename(temporary)}\n".encode() + content
    try:
        descriptor = os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    with open(descriptor, "wb", buffering=0) as file:
        file.write(claim_bytes)
        sync_descriptor(file.fileno())
    try:
        is_ours = claim.read_bytes() == claim_bytes
    except FileNotFoundError:
        is_ours = False
    if not is_ours:
        raise AmbiguousError("writing its claim took so long that another process removed the claim")
    return True


def _read_file_claim(claim: Path) -> bytes | None:
    previous_bytes, unchanged_since = b"", time.monotonic()
    try:
        while (content := _without_checksum(claim_bytes := claim.read_bytes())) is None:
            if claim_bytes != previous_bytes:
                previous_bytes, unchanged_since = claim_bytes, time.monotonic()
            elif time.monotonic() - unchanged_since > _TORN_CLAIM_SECONDS:
                renamed = claim.with_name(uuid.uuid4().hex)
                os.rename(claim, renamed)
                content = _without_checksum(renamed.read_bytes())
                renamed.unlink()
                break
            time.sleep(_POLL_SECONDS)
    except FileNotFoundError:
        return None
    return content


def _without_checksum(claim_bytes: bytes) -> bytes | None:
    first_line, _, content = claim_bytes.partition(b"\n")
    return content if first_line[:64] == hashlib.sha256(content).hexdigest().encode() else None


def _release_file_claim(_: str, claim: Path) -> None:
    with contextlib.suppress(OSError):
        claim.unlink()


FOLDER_CLAIMS: Final = ClaimKind(_make_folder_claim, _read_folder_claim, _release_folder_claim)
FILE_CLAIMS: Final = ClaimKind(_make_file_claim, _read_file_claim, _release_file_claim)
"""File claims depend on time: a process that pauses for ten seconds between creating its claim and filling it counts as
dead. It detects that itself after filling the claim, except if the claim is removed right after that check."""
