"""Methods to give a complete file a name only if the name is free, and a test that a method works on a given disk.

A hard link does this in one step, and so does a rename that never replaces. Where a disk supports neither, the name is
claimed first; see `create_claims`.
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
_OVERWRITTEN: Final = "it overwrites an existing file"
_PROOF_SECONDS: Final = 60.0

CreateFunction = Callable[[str, Path, Path], bool]
"""Gives a temporary file a name; False if the name is taken.

The arguments are the temporary path, the target, and the path for a claim if the method needs one. Raises `OSError` of
the system, and `AmbiguousError` if the outcome is unknown and the call must be repeated.
"""


@dataclass(frozen=True, slots=True)
class CreateMethod:
    """One method to create an object."""

    name: str
    """Name that is stored in the output."""
    title: str
    """Name in messages."""
    create_file: CreateFunction
    claim_kind: ClaimKind | None = None
    """Kind of claims that it needs, if any."""


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
    method.name: method
    for method in (
        LINK_METHOD,
        CreateMethod("rename", "renameat2 with RENAME_NOREPLACE", _create_by_rename),
        CreateMethod(
            "folder", "renaming a folder onto a full one", partial(publish_with_claim, FOLDER_CLAIMS), FOLDER_CLAIMS
        ),
        CreateMethod("exclusive", "O_EXCL", partial(publish_with_claim, FILE_CLAIMS), FILE_CLAIMS),
    )
}
"""Methods by name, in the order in which they are tried."""


def probe_create_method(method: CreateMethod, temporary: str, target: Path, claim: Path) -> str | None:
    """Test a method on a disk: existing files must stay, and one of several simultaneous attempts must succeed.

    Args:
        method: Method to test.
        temporary: Prefix for temporary files, on the same disk.
        target: Name that is free.
        claim: Path for the claim on that name.

    Returns:
        Why the method does not work on this disk; None if it does.
    """
    if method.claim_kind is not None:
        make, read = method.claim_kind.make_claim, method.claim_kind.read_claim
        claim.parent.mkdir(parents=True, exist_ok=True)
        problem = _test_exclusiveness(
            lambda path: make(path, claim), lambda: read(claim), lambda: remove_claim(claim), temporary
        )
        if problem is not None:
            return problem
        remove_claim(claim)
    return _test_exclusiveness(
        lambda path: method.create_file(path, target, claim), target.read_bytes, target.unlink, temporary
    )


def _test_exclusiveness(
    create: Callable[[str], bool], read: Callable[[], bytes | None], remove: Callable[[], None], temporary: str
) -> str | None:
    expected_content = None
    for racers, expected_wins in ((1, 1), (1, 0), (_RACING_THREADS, 1)):
        if racers > 1:
            remove()
        answers = _race_threads(create, temporary, racers)
        for answer in answers.values():
            if isinstance(answer, Exception):
                return str(getattr(answer, "strerror", None) or answer)
        winners = [content for content, answer in answers.items() if answer]
        if winners and not expected_wins:
            return _OVERWRITTEN
        if len(winners) != expected_wins:
            return f"expected one of {racers} processes that create a file at once to succeed, got {len(winners)}"
        expected_content = winners[0] if winners else expected_content
        if read() != expected_content:
            return _OVERWRITTEN
    return None


def _race_threads(create: Callable[[str], bool], temporary: str, racers: int) -> dict[bytes, bool | Exception]:
    """Let threads create one file at once; returns the answer that each got, by the content that it wrote."""
    answers, barrier = dict[bytes, bool | Exception](), threading.Barrier(racers)

    def create_until_certain(path: str) -> bool:
        deadline = time.monotonic() + _PROOF_SECONDS
        barrier.wait()
        while True:
            try:
                return create(path)
            except AmbiguousError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_PAUSE_SECONDS)

    def run_racer(number: int) -> None:
        path = f"{temporary}.{number}"
        content = uuid.uuid4().hex.encode()
        Path(path).write_bytes(content)
        answers[content] = try_call(lambda: create_until_certain(path))
        Path(path).unlink(missing_ok=True)

    threads = [threading.Thread(target=run_racer, args=(number,)) for number in range(racers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
