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

from cvbatch.errors import AmbiguousError, caught
from cvbatch.output.create_claims import FILES, FOLDERS, Kind, drop, place_claimed
from cvbatch.output.disk_space import MISSING

LINK_REFUSED: Final = MISSING | {errno.EPERM, errno.EACCES, errno.EXDEV, errno.EMLINK}
_NO_REPLACE: Final = 1
_AT_CWD: Final = -100
_PAUSE: Final = 0.02
_RACERS: Final = 8
_OVER: Final = "what was there was written over"
_PROOF_SECONDS: Final = 60.0

Place = Callable[[str, Path, Path], bool]
"""Gives a temporary file a name; False if there is one. Its claim, if it takes one, lies at the third path.

Raises `OSError` as the system does, and `AmbiguousError` if it has to be asked again.
"""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to create."""

    name: str
    """How an output remembers it."""
    title: str
    """What people call it."""
    place: Place
    kind: Kind | None = None
    """Of claims, if it takes them."""


def _link(temporary: str, target: Path, _: Path) -> bool:
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    return True


def _rename_new(temporary: str, target: Path, _: Path) -> bool:
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if rename(_AT_CWD, os.fsencode(temporary), _AT_CWD, os.fsencode(target), _NO_REPLACE) == 0:
        return True
    if (number := ctypes.get_errno()) == errno.EEXIST:
        return False
    raise OSError(number, os.strerror(number), str(target))


LINK: Final = Way("link", "hard links", _link)
WAYS: Final = {
    way.name: way
    for way in (
        LINK,
        Way("rename", "renameat2 with RENAME_NOREPLACE", _rename_new),
        Way("folder", "renaming a folder onto a full one", partial(place_claimed, FOLDERS), FOLDERS),
        Way("exclusive", "O_EXCL", partial(place_claimed, FILES), FILES),
    )
}
"""In the order in which they are tried."""


def prove(way: Way, temporary: str, target: Path, claim: Path) -> str | None:
    """Try a way out: what is there must stay, and of several at once one must win.

    Args:
        way: To be tried.
        temporary: What names of temporary files may begin with, on the same disk.
        target: A name that nobody has.
        claim: Where its claim would lie.

    Returns:
        Why it does not do here; None if it does.
    """
    if way.kind is not None:
        make, read = way.kind.make, way.kind.read
        claim.parent.mkdir(parents=True, exist_ok=True)
        trouble = _tried(lambda mine: make(mine, claim), lambda: read(claim), lambda: drop(claim), temporary)
        if trouble is not None:
            return trouble
        drop(claim)
    return _tried(lambda mine: way.place(mine, target, claim), target.read_bytes, target.unlink, temporary)


def _tried(
    take: Callable[[str], bool], read: Callable[[], bytes | None], forget: Callable[[], None], temporary: str
) -> str | None:
    kept = None
    for racers, wins in ((1, 1), (1, 0), (_RACERS, 1)):
        if racers > 1:
            forget()
        answers = _race(take, temporary, racers)
        for answer in answers.values():
            if isinstance(answer, Exception):
                return str(getattr(answer, "strerror", None) or answer)
        won = [content for content, answer in answers.items() if answer]
        kept = won[0] if wins and won else kept
        if not wins and won:
            return _OVER
        if len(won) != wins:
            return f"of {racers} that created a file at once {len(won)} were told that they had"
        if read() != kept:
            return _OVER
    return None


def _race(take: Callable[[str], bool], temporary: str, racers: int) -> dict[bytes, bool | Exception]:
    """What each of several threads was told that created one file at once, by what it wrote."""
    answers, start = dict[bytes, bool | Exception](), threading.Barrier(racers)

    def place(mine: str) -> bool:
        deadline = time.monotonic() + _PROOF_SECONDS
        start.wait()
        while True:
            try:
                return take(mine)
            except AmbiguousError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    def work(number: int) -> None:
        mine = f"{temporary}.{number}"
        content = uuid.uuid4().hex.encode()
        Path(mine).write_bytes(content)
        answers[content] = caught(lambda: place(mine))
        Path(mine).unlink(missing_ok=True)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(racers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
