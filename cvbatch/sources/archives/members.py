"""A member of an archive, and the policy: what is a row, what is counted, and what is never read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from cvbatch.sources.suffixes import Suffixes, counted_as

FOLDER: Final = "folder"
"""The one kind of member that is not even counted."""
MAX_IMAGE_BYTES: Final = 256 << 20
"""Encoded images that are larger are never read."""
REFUSALS: Final = {
    "UnsafeMember": "its name is absolute or leads out of the archive",
    "TooManyBytes": f"expected at most {MAX_IMAGE_BYTES} bytes of encoded image",
    "EncryptedMember": "it is encrypted; unpack it with its password",
    "OverlappingMember": "it shares its bytes with another member",
    "UnsupportedCompression": "expected it stored or deflated; pack it again",
}
"""Every reason why a member is a row that is never read, and its message."""

_SEPARATORS: Final = re.compile(rb"[/\\]")
_DRIVE: Final = re.compile(rb"[A-Za-z]:")
_NOT_FOR_PEOPLE: Final = b"__MACOSX"


@dataclass(frozen=True, slots=True)
class Member:
    """What the index of an archive says of a member."""

    name: bytes
    how: str
    """What reads it; see `Span`."""
    offset: int
    stored: int
    """Bytes in the archive."""
    size: int
    """Bytes unpacked, as the index has it."""
    check: int | None = None
    other: str | None = None
    """What it is instead of a regular file."""
    refused: str | None = None
    """Why the format makes it unreadable."""


class Index(Protocol):
    """The members of an archive, read from its beginning to its end, once."""

    end_marks: int
    """Behind how many end marks another archive was found and read."""

    def __iter__(self) -> Iterator[Member]:
        """Yield the members in their order.

        Raises:
            BrokenContainerError: Where the archive cannot be read any further.
        """

    def read(self, member: Member) -> bytes:
        """Read the bytes of the member that was yielded last."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a member: a row, which may be refused, or something that is counted, or nothing."""

    row: bool = False
    refused: str | None = None
    counted: str | None = None


_NOTHING: Final = Verdict()
_ROW: Final = Verdict(row=True)
_TOO_LARGE: Final = Verdict(row=True, refused="TooManyBytes")


def judge(member: Member, suffixes: Suffixes) -> Verdict:
    """Decide what becomes of a member."""
    cut = max(member.name.rfind(b"/"), member.name.rfind(b"\\")) + 1
    folder, base = _folder(member.name[:cut]), member.name[cut:]
    if member.other == FOLDER or folder.hidden or (base.startswith(b".") and base != b".."):
        return _NOTHING
    if member.other is not None:
        return Verdict(counted=member.other)
    if not suffixes.take(base):
        return Verdict(counted=counted_as(base))
    if member.refused is not None:
        return Verdict(row=True, refused=member.refused)
    if folder.unsafe or base == b".." or b"\0" in base or _DRIVE.match(member.name):
        return Verdict(row=True, refused="UnsafeMember")
    return _TOO_LARGE if max(member.size, member.stored) > MAX_IMAGE_BYTES else _ROW


@dataclass(frozen=True, slots=True)
class _Folder:
    hidden: bool
    unsafe: bool


@lru_cache(maxsize=1024)
def _folder(name: bytes) -> _Folder:
    """What its folder makes of a member; many share one."""
    parts = _SEPARATORS.split(name)
    return _Folder(
        hidden=any(part == _NOT_FOR_PEOPLE or (part.startswith(b".") and part not in (b".", b"..")) for part in parts),
        unsafe=b".." in parts or (bool(name) and not parts[0]) or b"\0" in name,
    )
