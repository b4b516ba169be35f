"""A member of an archive, and the policy: what is a row, what is counted, and what is never read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
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


def judge(member: Member, suffixes: Suffixes) -> Verdict:
    """Decide what becomes of a member."""
    parts = _SEPARATORS.split(member.name)
    if member.other == FOLDER or _hidden(parts):
        return Verdict()
    if member.other is not None:
        return Verdict(counted=member.other)
    if not suffixes.take(parts[-1]):
        return Verdict(counted=counted_as(parts[-1]))
    return Verdict(row=True, refused=member.refused or _refusal(member, parts))


def _hidden(parts: list[bytes]) -> bool:
    return any(part == _NOT_FOR_PEOPLE or (part.startswith(b".") and part not in (b".", b"..")) for part in parts)


def _refusal(member: Member, parts: list[bytes]) -> str | None:
    if b".." in parts or not parts[0] or _DRIVE.match(parts[0]) or b"\0" in member.name:
        return "UnsafeMember"
    return "TooManyBytes" if max(member.size, member.stored) > MAX_IMAGE_BYTES else None
