"""Claims on names, for disks that can neither link nor rename without replacing.

A claim can be made once and holds the whole content. Whoever finds one whose maker has died publishes that content in
its place: so no reader ever meets half an object, and nobody waits for the dead. A claim goes when its name is there;
who claims later looks once more whether it is.
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
"""Half a claim that does not change for so long is one of a dead process."""
_POLL_SECONDS: Final = 0.25
_PUBLISH_WAIT_SECONDS: Final = 1.0
"""How long a whole claim is left to its maker. Two that publish it do no harm, but where a rename over a file takes
more than a moment the file is not there meanwhile."""
_PAUSE_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class ClaimKind:
    """One kind of claim."""

    make_claim: Callable[[str, Path], bool]
    """Claims a name for the content of a temporary file; False if it is claimed."""
    read_claim: Callable[[Path], bytes | None]
    """The content that a claim holds; None if it is gone."""
    release_claim: Callable[[str, Path], None]


def publish_with_claim(kind: ClaimKind, temporary: str, target: Path, claim: Path) -> bool:
    """Give a temporary file a name if nobody has it, by way of a claim on the name.

    Returns:
        False if there is one.

    Raises:
        AmbiguousError: If it has to be asked again.
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
                # published by another who found this claim, or by one who had claimed it before and let go since
                return target.read_bytes() == Path(temporary).read_bytes()
            _publish_content(Path(temporary).read_bytes(), temporary, target)
            return True
        finally:
            kind.release_claim(temporary, claim)
    except FileNotFoundError:  # another has just written over the name, or taken the claim away
        raise AmbiguousError("another process writes it, too") from None


def _await_publication(kind: ClaimKind, temporary: str, target: Path, claim: Path) -> None:
    """Wait until whoever holds a claim has published its content, and do it if that takes long: he may have died."""
    deadline = time.monotonic() + _PUBLISH_WAIT_SECONDS
    while not target.exists():
        content = kind.read_claim(claim)
        if content is None:
            raise AmbiguousError("another process was about to write it")
        if time.monotonic() > deadline:
            _publish_content(content, temporary, target)
        else:
            time.sleep(_PAUSE_SECONDS)


def remove_claim(claim: Path) -> None:
    """Take a claim away, whosever it is; of many that do, one does."""
    aside = claim.with_name(uuid.uuid4().hex)
    with contextlib.suppress(FileNotFoundError):
        os.rename(claim, aside)
        shutil.rmtree(aside) if aside.is_dir() else aside.unlink()


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
    """Rename a folder that holds the content: a folder in which something lies is never replaced."""
    mine = f"{temporary}.claim"
    os.mkdir(mine)
    try:
        inside = os.path.join(mine, os.path.basename(temporary))
        shutil.copyfile(temporary, inside)
        sync_file(inside)
        sync_folder(mine)
        os.rename(mine, claim)
        sync_folder(claim.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    finally:
        shutil.rmtree(mine, ignore_errors=True)
    return True


def _read_folder_claim(claim: Path) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(claim):
            return (claim / name).read_bytes()
    with contextlib.suppress(OSError):
        claim.rmdir()  # its maker has let go of the content, and not yet of the folder
    return None


def _release_folder_claim(temporary: str, claim: Path) -> None:
    with contextlib.suppress(OSError):
        (claim / os.path.basename(temporary)).unlink()
        claim.rmdir()


def _make_file_claim(temporary: str, claim: Path) -> bool:
    """Create the claim itself, and fill it then; its first line tells a whole one from half of one."""
    content = Path(temporary).read_bytes()
    marked = f"{hashlib.sha256(content).hexdigest()} {os.path.basename(temporary)}\n".encode() + content
    try:
        descriptor = os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    with open(descriptor, "wb", buffering=0) as file:
        file.write(marked)
        sync_descriptor(file.fileno())
    try:
        ours = claim.read_bytes() == marked
    except FileNotFoundError:
        ours = False
    if not ours:
        raise AmbiguousError("it took so long that another process took it for dead")
    return True


def _read_file_claim(claim: Path) -> bytes | None:
    before, since = b"", time.monotonic()
    try:
        while (content := _without_checksum(there := claim.read_bytes())) is None:
            if there != before:
                before, since = there, time.monotonic()
            elif time.monotonic() - since > _TORN_CLAIM_SECONDS:
                aside = claim.with_name(uuid.uuid4().hex)
                os.rename(claim, aside)
                content = _without_checksum(aside.read_bytes())
                aside.unlink()
                break
            time.sleep(_POLL_SECONDS)
    except FileNotFoundError:
        return None
    return content


def _without_checksum(marked: bytes) -> bytes | None:
    line, _, content = marked.partition(b"\n")
    return content if line[:64] == hashlib.sha256(content).hexdigest().encode() else None


def _release_file_claim(_: str, claim: Path) -> None:
    with contextlib.suppress(OSError):
        claim.unlink()


FOLDER_CLAIMS: Final = ClaimKind(_make_folder_claim, _read_folder_claim, _release_folder_claim)
FILE_CLAIMS: Final = ClaimKind(_make_file_claim, _read_file_claim, _release_file_claim)
"""The second one rests on time: a process that stands still for ten seconds between making its claim and filling it is
taken for dead, and notices that itself, but for a moment's gap."""
