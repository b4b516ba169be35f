"""Zip: the directory at its end says where each member lies."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from cvbatch.errors import ImageError
from cvbatch.sources.archives.members import FOLDER, ArchiveMember
from cvbatch.sources.entries import Span
from cvbatch.sources.fetch.blob import BrokenContainerError, ByteBlob, archive_changed_error, open_buffered

STORED: Final = "zip"
DEFLATED: Final = "zip-deflate"

_BROKEN: Final = (
    zipfile.BadZipFile,
    NotImplementedError,
    ArithmeticError,
    LookupError,
    ValueError,
    struct.error,
)
"""What `zipfile` raises for files that are none, or damaged ones."""
_HOW: Final = {zipfile.ZIP_STORED: STORED, zipfile.ZIP_DEFLATED: DEFLATED}
_HEADER: Final = struct.Struct("<4s22xHH")
_MAGIC: Final = b"PK\x03\x04"
_DIRECTORY_END, _END_SIZE = b"PK\x05\x06", 22
_MAX_TAIL_BYTES: Final = _END_SIZE + (1 << 16)
_USUAL_NAME: Final = 512
"""Name and extra fields are rarely longer, so one read is enough."""
_UTF8_NAME: Final = 0x800
_ENCRYPTED: Final = 0x1
_UNIX: Final = 3
_OTHERS: Final = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "special file",
    stat.S_IFDIR: FOLDER,
}


class ZipIndex:
    """The members of a zip, in the order of its directory.

    Args:
        blob: The shard.
    """

    end_marks = 0

    def __init__(self, blob: ByteBlob) -> None:
        self._blob = blob

    def __iter__(self) -> Iterator[ArchiveMember]:
        """Yield the members; a zip without its directory has none."""
        try:
            with zipfile.ZipFile(open_buffered(self._blob)) as archive:
                members = archive.infolist()
                shared = _overlapping_members(members)
                for at, member in enumerate(members):
                    yield _to_member(member, at in shared)
                before = min((member.header_offset for member in members), default=archive.start_dir)
                behind = self._blob.byte_size() - _find_central_directory_end(self._blob)
        except _BROKEN as error:
            raise BrokenContainerError(str(error) or type(error).__name__) from error
        if before and self._blob.read_range(0, len(_MAGIC)) == _MAGIC:
            raise BrokenContainerError(f"{before:,} bytes before it look like another zip, and are left out")
        if behind > 0:
            raise BrokenContainerError(f"{behind:,} bytes that follow its end are left out")

    def read_member(self, member: ArchiveMember) -> bytes:
        """Read the bytes of a member."""
        span = Span(member.how, member.offset, member.stored, check=member.check)
        return read_zip_member(self._blob, span, member.size)


def read_zip_member(blob: ByteBlob, span: Span, length: int) -> bytes:
    """Read one member.

    Args:
        blob: The shard.
        span: Where it lies.
        length: Bytes that it should have unpacked; more never come into memory.

    Raises:
        ImageError: `TruncatedArchive`, `ArchiveChanged`, `DecompressionBomb` or `DamagedMember`.
    """
    offset, size = span.byte_range
    block = blob.read_range(offset, _HEADER.size + _USUAL_NAME + size)
    if len(block) < _HEADER.size or not block.startswith(_MAGIC):
        raise archive_changed_error()
    _, name, extra = _HEADER.unpack_from(block)
    start = _HEADER.size + name + extra
    if (missing := start + size - len(block)) > 0:
        block += blob.read_range(offset + len(block), missing)
    data = block[start : start + size]
    if len(data) < size:
        raise ImageError("TruncatedArchive", f"the archive ends {size - len(data)} bytes too early")
    if span.how == DEFLATED:
        data = _inflate_bounded(data, length)
    if len(data) != length or zlib.crc32(data) != span.check:
        raise ImageError("DamagedMember", "its checksum is wrong")
    return data


def _find_central_directory_end(blob: ByteBlob) -> int:
    """Where a zip ends, its comment included."""
    tail = blob.read_range(max(0, blob.byte_size() - _MAX_TAIL_BYTES), _MAX_TAIL_BYTES)
    at = tail.rfind(_DIRECTORY_END)
    return (
        blob.byte_size()
        - len(tail)
        + at
        + _END_SIZE
        + int.from_bytes(tail[at + _END_SIZE - 2 : at + _END_SIZE], "little")
    )


def _inflate_bounded(data: bytes, length: int) -> bytes:
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = unpack.decompress(data, length + 1)
    except zlib.error as error:
        raise ImageError("DamagedMember", str(error)) from error
    if len(found) > length:
        raise ImageError("DecompressionBomb", f"it unpacks to more than the {length} bytes that it promises")
    return found


def _overlapping_members(members: Sequence[zipfile.ZipInfo]) -> set[int]:
    """Members whose bytes are also those of another one: so a small zip holds thousands of large members."""
    shared, end, last = set[int](), 0, -1
    for at in sorted(range(len(members)), key=lambda at: members[at].header_offset):
        if members[at].header_offset < end:
            shared |= {last, at}
        if (own := members[at].header_offset + members[at].compress_size) > end:
            end, last = own, at
    return shared


def _to_member(found: zipfile.ZipInfo, overlaps: bool) -> ArchiveMember:
    refused = "OverlappingMember" if overlaps else None
    if found.flag_bits & _ENCRYPTED:
        refused = "EncryptedMember"
    elif found.compress_type not in _HOW:
        refused = "UnsupportedCompression"
    kind = stat.S_IFMT(found.external_attr >> 16) if found.create_system == _UNIX else 0
    return ArchiveMember(
        name=found.orig_filename.encode("utf-8" if found.flag_bits & _UTF8_NAME else "cp437"),
        how=_HOW.get(found.compress_type, DEFLATED),
        offset=found.header_offset,
        stored=found.compress_size,
        size=found.file_size,
        check=found.CRC,
        other=FOLDER if found.is_dir() else _OTHERS.get(kind),
        refused=refused,
    )
