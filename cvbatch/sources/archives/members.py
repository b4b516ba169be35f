"""Members of an archive, and the policy: which become rows, which are counted, which are never read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from cvbatch.sources.suffixes import ImageSuffixes, skipped_kind

FOLDER: Final = "folder"
"""Kind of members that are not even counted."""
MAX_IMAGE_BYTES: Final = 256 << 20
"""Larger encoded images are never read."""
REFUSALS: Final = {
    "UnsafeMember": "its name is absolute or leads outside the archive",
    "TooManyBytes": f"expected at most {MAX_IMAGE_BYTES} bytes of encoded image",
    "EncryptedMember": "it is encrypted; unpack the archive with its password",
    "OverlappingMember": "it shares its bytes with another member",
    "UnsupportedCompression": "expected it stored or deflated; pack it again",
}
"""Reasons for which a member is a row but never read, with their messages."""

_SEPARATORS: Final = re.compile(rb"[/\\]")
_DRIVE: Final = re.compile(rb"[A-Za-z]:")
_HIDDEN_FOLDER: Final = b"__MACOSX"


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A member as the index of an archive describes it."""

    name: bytes
    how: str
    """Key of the reader; see `Span`."""
    offset: int
    stored: int
    """Bytes in the archive."""
    size: int
    """Unpacked bytes, according to the index."""
    check: int | None = None
    other: str | None = None
    """Kind of a member that is not a regular file."""
    refused: str | None = None
    """Reason in the format for which it is unreadable."""


class ArchiveIndex(Protocol):
    """Members of an archive, read once from beginning to end."""

    end_marks: int
    """Number of end marks that were followed by another archive, which was read."""

    def __iter__(self) -> Iterator[ArchiveMember]:
        """Yield the members in order.

        Raises:
            BrokenContainerError: If the archive cannot be read any further.
        """

    def read_member(self, member: ArchiveMember) -> bytes:
        """Read the bytes of the member that was yielded last."""


@dataclass(frozen=True, slots=True)
class MemberDecision:
    """Treatment of a member: a row, perhaps refused; counted as skipped; or ignored."""

    is_row: bool = False
    refused: str | None = None
    skipped_as: str | None = None


_IGNORED: Final = MemberDecision()
_ROW: Final = MemberDecision(is_row=True)
_TOO_LARGE: Final = MemberDecision(is_row=True, refused="TooManyBytes")


def decide_member(member: ArchiveMember, suffixes: ImageSuffixes) -> MemberDecision:
    """Decide how a member is treated."""
    name_start = max(member.name.rfind(b"/"), member.name.rfind(b"\\")) + 1
    folder, file_name = _folder_traits(member.name[:name_start]), member.name[name_start:]
    if member.other == FOLDER or folder.is_hidden or (file_name.startswith(b".") and file_name != b".."):
        return _IGNORED
    if member.other is not None:
        return MemberDecision(skipped_as=member.other)
    if not suffixes.is_image(file_name):
        return MemberDecision(skipped_as=skipped_kind(file_name))
    if member.refused is not None:
        return MemberDecision(is_row=True, refused=member.refused)
    if folder.is_unsafe or file_name == b".." or b"\0" in file_name or _DRIVE.match(member.name):
        return MemberDecision(is_row=True, refused="UnsafeMember")
    return _TOO_LARGE if max(member.size, member.stored) > MAX_IMAGE_BYTES else _ROW


@dataclass(frozen=True, slots=True)
class _FolderTraits:
    is_hidden: bool
    is_unsafe: bool


@lru_cache(maxsize=1024)
def _folder_traits(name: bytes) -> _FolderTraits:
    """Traits of the folder of a member; cached, as many members share a folder."""
    parts = _SEPARATORS.split(name)
    return _FolderTraits(
        is_hidden=any(
            part == _HIDDEN_FOLDER or (part.startswith(b".") and part not in (b".", b"..")) for part in parts
        ),
        is_unsafe=b".." in parts or (bool(name) and not parts[0]) or b"\0" in name,
    )
