"""A member of an archive, and the policy: what is a row, what is counted, and what is never read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from cvbatch.sources.suffixes import ImageSuffixes, skipped_kind

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
class ArchiveMember:
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


class ArchiveIndex(Protocol):
    """The members of an archive, read from its beginning to its end, once."""

    end_marks: int
    """Behind how many end marks another archive was found and read."""

    def __iter__(self) -> Iterator[ArchiveMember]:
        """Yield the members in their order.

        Raises:
            BrokenContainerError: Where the archive cannot be read any further.
        """

    def read_member(self, member: ArchiveMember) -> bytes:
        """Read the bytes of the member that was yielded last."""


@dataclass(frozen=True, slots=True)
class MemberDecision:
    """What becomes of a member: a row, which may be refused, or something that is counted, or nothing."""

    is_row: bool = False
    refused: str | None = None
    skipped_as: str | None = None


_NOTHING: Final = MemberDecision()
_ROW: Final = MemberDecision(is_row=True)
_TOO_LARGE: Final = MemberDecision(is_row=True, refused="TooManyBytes")


def decide_member(member: ArchiveMember, suffixes: ImageSuffixes) -> MemberDecision:
    """Decide what becomes of a member."""
    cut = max(member.name.rfind(b"/"), member.name.rfind(b"\\")) + 1
    folder, base = _folder_traits(member.name[:cut]), member.name[cut:]
    if member.other == FOLDER or folder.is_hidden or (base.startswith(b".") and base != b".."):
        return _NOTHING
    if member.other is not None:
        return MemberDecision(skipped_as=member.other)
    if not suffixes.is_image(base):
        return MemberDecision(skipped_as=skipped_kind(base))
    if member.refused is not None:
        return MemberDecision(is_row=True, refused=member.refused)
    if folder.is_unsafe or base == b".." or b"\0" in base or _DRIVE.match(member.name):
        return MemberDecision(is_row=True, refused="UnsafeMember")
    return _TOO_LARGE if max(member.size, member.stored) > MAX_IMAGE_BYTES else _ROW


@dataclass(frozen=True, slots=True)
class _FolderTraits:
    is_hidden: bool
    is_unsafe: bool


@lru_cache(maxsize=1024)
def _folder_traits(name: bytes) -> _FolderTraits:
    """What its folder makes of a member; many share one."""
    parts = _SEPARATORS.split(name)
    return _FolderTraits(
        is_hidden=any(
            part == _NOT_FOR_PEOPLE or (part.startswith(b".") and part not in (b".", b"..")) for part in parts
        ),
        is_unsafe=b".." in parts or (bool(name) and not parts[0]) or b"\0" in name,
    )
