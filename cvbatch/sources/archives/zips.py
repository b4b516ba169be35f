"""Zip: the central directory at the end locates each member."""

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
"""Errors of `zipfile` for damaged files and files that are not zips."""
_HOW: Final = {zipfile.ZIP_STORED: STORED, zipfile.ZIP_DEFLATED: DEFLATED}
_HEADER: Final = struct.Struct("<4s22xHH")
_MAGIC: Final = b"PK\x03\x04"
_DIRECTORY_END, _END_SIZE = b"PK\x05\x06", 22
_MAX_TAIL_BYTES: Final = _END_SIZE + (1 << 16)
_USUAL_NAME_BYTES: Final = 512
"""Bytes; name and extra fields are rarely longer, so one read is usually enough."""
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
    """The members of a zip, in the order of its central directory.

    Args:
        blob: Bytes of the archive.
    """

    end_marks = 0

    def __init__(self, blob: ByteBlob) -> None:
        self._blob = blob

    def __iter__(self) -> Iterator[ArchiveMember]:
        """Yield the members; a zip without a central directory has none."""
        try:
            with zipfile.ZipFile(open_buffered(self._blob)) as archive:
                members = archive.infolist()
                overlapping = _overlapping_members(members)
                for index, member in enumerate(members):
                    yield _to_member(member, index in overlapping)
                leading_bytes = min((member.header_offset for member in members), default=archive.start_dir)
                trailing_bytes = self._blob.byte_size() - _find_central_directory_end(self._blob)
        except _BROKEN as error:
            raise BrokenContainerError(str(error) or type(error).__name__) from error
        if leading_bytes and self._blob.read_range(0, len(_MAGIC)) == _MAGIC:
            raise BrokenContainerError(f"{leading_bytes:,} bytes before it look like another zip and were skipped")
        if trailing_bytes > 0:
            raise BrokenContainerError(f"{trailing_bytes:,} bytes after its end were skipped")

    def read_member(self, member: ArchiveMember) -> bytes:
        """Read the bytes of a member."""
        span = Span(member.how, member.offset, member.stored, check=member.check)
        return read_zip_member(self._blob, span, member.size)


def read_zip_member(blob: ByteBlob, span: Span, length: int) -> bytes:
    """Read one member.

    Args:
        blob: Bytes of the archive.
        span: Location of the member.
        length: Expected unpacked bytes; never more than this come into memory.

    Raises:
        ImageError: `TruncatedArchive`, `ArchiveChanged`, `DecompressionBomb` or `DamagedMember`.
    """
    offset, size = span.byte_range
    block = blob.read_range(offset, _HEADER.size + _USUAL_NAME_BYTES + size)
    if len(block) < _HEADER.size or not block.startswith(_MAGIC):
        raise archive_changed_error()
    _, name_bytes, extra_bytes = _HEADER.unpack_from(block)
    start = _HEADER.size + name_bytes + extra_bytes
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
    """Offset of the end of a zip, including its comment."""
    tail = blob.read_range(max(0, blob.byte_size() - _MAX_TAIL_BYTES), _MAX_TAIL_BYTES)
    position = tail.rfind(_DIRECTORY_END)
    return (
        blob.byte_size()
        - len(tail)
        + position
        + _END_SIZE
        + int.from_bytes(tail[position + _END_SIZE - 2 : position + _END_SIZE], "little")
    )


def _inflate_bounded(data: bytes, length: int) -> bytes:
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = decompressor.decompress(data, length + 1)
    except zlib.error as error:
        raise ImageError("DamagedMember", str(error)) from error
    if len(unpacked) > length:
        raise ImageError("DecompressionBomb", f"it unpacks to more than the {length} bytes that the archive declares")
    return unpacked


def _overlapping_members(members: Sequence[zipfile.ZipInfo]) -> set[int]:
    """Indices of members that share bytes: this is how a small zip bomb holds thousands of large members."""
    overlapping, end, last_index = set[int](), 0, -1
    for index in sorted(range(len(members)), key=lambda index: members[index].header_offset):
        if members[index].header_offset < end:
            overlapping |= {last_index, index}
        if (member_end := members[index].header_offset + members[index].compress_size) > end:
            end, last_index = member_end, index
    return overlapping


def _to_member(info: zipfile.ZipInfo, is_overlapping: bool) -> ArchiveMember:
    refusal = "OverlappingMember" if is_overlapping else None
    if info.flag_bits & _ENCRYPTED:
        refusal = "EncryptedMember"
    elif info.compress_type not in _HOW:
        refusal = "UnsupportedCompression"
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == _UNIX else 0
    return ArchiveMember(
        name=info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8_NAME else "cp437"),
        how=_HOW.get(info.compress_type, DEFLATED),
        offset=info.header_offset,
        stored=info.compress_size,
        size=info.file_size,
        check=info.CRC,
        other=FOLDER if info.is_dir() else _OTHERS.get(kind),
        refused=refusal,
    )
