"""Ways to give a whole file a name only if nobody has that name yet, and the proof that one does it here.

A hard link does it in one step, and so does a rename that never replaces. Where a disk has neither, the name is claimed
first; see `claims`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from cvbatch.errors import AmbiguousError, try_call
from cvbatch.output.create_claims import FILE_CLAIMS, FOLDER_CLAIMS, ClaimKind, publish_with_claim, remove_claim
from cvbatch.output.disk_space import UNSUPPORTED_ERRNOS

LINK_REFUSED_ERRNOS: Final = UNSUPPORTED_ERRNOS | {errno.EPERM, errno.EACCES, errno.EXDEV, errno.EMLINK}
_NO_REPLACE: Final = 1
_AT_CWD: Final = -100
_RETRY_PAUSE_SECONDS: Final = 0.02
_RACING_THREADS: Final = 8
_OVERWRITTEN: Final = "what was there was written over"
_PROOF_SECONDS: Final = 60.0

Place = Callable[[str, Path, Path], bool]
"""Gives a temporary file a name; False if there is one. Its claim, if it takes one, lies at the third path.

Raises `OSError` as the system does, and `AmbiguousError` if it has to be asked again.
"""


@dataclass(frozen=True, slots=True)
class CreateMethod:
    """One way to create."""

    name: str
    """How an output remembers it."""
    title: str
    """What people call it."""
    create_file: Place
    claim_kind: ClaimKind | None = None
    """Of claims, if it takes them."""


def _create_by_link(temporary: str, target: Path, _: Path) -> bool:
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    return True


def _create_by_rename(temporary: str, target: Path, _: Path) -> bool:
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if rename(_AT_CWD, os.fsencode(temporary), _AT_CWD, os.fsencode(target), _NO_REPLACE) == 0:
        return True
    if (number := ctypes.get_errno()) == errno.EEXIST:
        return False
    raise OSError(number, os.strerror(number), str(target))


LINK_METHOD: Final = CreateMethod("link", "hard links", _create_by_link)
CREATE_METHODS: Final = {
    way.name: way
    for way in (
        LINK_METHOD,
        CreateMethod("rename", "renameat2 with RENAME_NOREPLACE", _create_by_rename),
        CreateMethod(
            "folder", "renaming a folder onto a full one", partial(publish_with_claim, FOLDER_CLAIMS), FOLDER_CLAIMS
        ),
        CreateMethod("exclusive", "O_EXCL", partial(publish_with_claim, FILE_CLAIMS), FILE_CLAIMS),
    )
}
"""In the order in which they are tried."""


def test_create_method(way: CreateMethod, temporary: str, target: Path, claim: Path) -> str | None:
    """Try a way out: what is there must stay, and of several at once one must win.

    Args:
        way: To be tried.
        temporary: What names of temporary files may begin with, on the same disk.
        target: A name that nobody has.
        claim: Where its claim would lie.

    Returns:
        Why it does not do here; None if it does.
    """
    if way.claim_kind is not None:
        make, read = way.claim_kind.make_claim, way.claim_kind.read_claim
        claim.parent.mkdir(parents=True, exist_ok=True)
        trouble = _test_exclusiveness(
            lambda mine: make(mine, claim), lambda: read(claim), lambda: remove_claim(claim), temporary
        )
        if trouble is not None:
            return trouble
        remove_claim(claim)
    return _test_exclusiveness(
        lambda mine: way.create_file(mine, target, claim), target.read_bytes, target.unlink, temporary
    )


def _test_exclusiveness(
    take: Callable[[str], bool], read: Callable[[], bytes | None], forget: Callable[[], None], temporary: str
) -> str | None:
    kept = None
    for racers, wins in ((1, 1), (1, 0), (_RACING_THREADS, 1)):
        if racers > 1:
            forget()
        answers = _race_threads(take, temporary, racers)
        for answer in answers.values():
            if isinstance(answer, Exception):
                return str(getattr(answer, "strerror", None) or answer)
        won = [content for content, answer in answers.items() if answer]
        kept = won[0] if wins and won else kept
        if not wins and won:
            return _OVERWRITTEN
        if len(won) != wins:
            return f"of {racers} that created a file at once {len(won)} were told that they had"
        if read() != kept:
            return _OVERWRITTEN
    return None


def _race_threads(take: Callable[[str], bool], temporary: str, racers: int) -> dict[bytes, bool | Exception]:
    """What each of several threads was told that created one file at once, by what it wrote."""
    answers, start = dict[bytes, bool | Exception](), threading.Barrier(racers)

    def create_until_certain(mine: str) -> bool:
        deadline = time.monotonic() + _PROOF_SECONDS
        start.wait()
        while True:
            try:
                return take(mine)
            except AmbiguousError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_PAUSE_SECONDS)

    def run_racer(number: int) -> None:
        mine = f"{temporary}.{number}"
        content = uuid.uuid4().hex.encode()
        Path(mine).write_bytes(content)
        answers[content] = try_call(lambda: create_until_certain(mine))
        Path(mine).unlink(missing_ok=True)

    threads = [threading.Thread(target=run_racer, args=(number,)) for number in range(racers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
