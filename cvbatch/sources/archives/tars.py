"""Tar: reads the headers one by one and skips the bodies between them."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from typing import Final, Self

from cvbatch.errors import ImageError
from cvbatch.sources.archives.members import FOLDER, ArchiveMember
from cvbatch.sources.archives.streams import ForwardStream
from cvbatch.sources.fetch.blob import BrokenContainerError, ByteBlob, archive_changed_error

HEADER: Final = tarfile.BLOCKSIZE
_MAX_HEADER_BYTES: Final = 64 << 10
"""Limit for names and attributes; for a hostile header, `tarfile` would read gigabytes."""
_LONGEST_NAME, _KIND, _PREFIX, _MAGIC, _USTAR = 100, 156, 345, slice(257, 262), b"ustar"
_SIZE, _CHECKSUM, _CHECKSUM_FIELD = (124, 135), (148, 154), (148, 156)
_OCTAL: Final = re.compile(rb"[0-7]+")
_NAMES: Final = {"encoding": "utf-8", "errors": "surrogateescape"}
_OTHERS: Final = {
    tarfile.DIRTYPE: FOLDER,
    tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "FIFO",
}


class TarIndex:
    """The members of a tar, plain or compressed.

    Args:
        blob: Bytes of the archive.
        how: Compression; see `ForwardStream`.
    """

    def __init__(self, blob: ByteBlob, compression: str) -> None:
        self._how = compression
        self._stream = ForwardStream(blob, compression)
        self.end_marks = 0

    def __iter__(self) -> Iterator[ArchiveMember]:
        """Yield the members in order, including a last member with a truncated body.

        A tar that follows the end mark, as in the output of `cat a.tar b.tar`, is read, too.
        """
        headers = _BoundedHeaderStream(self._stream)
        yield from self._iter_members(headers)
        while headers.skip_to_next_tar():
            self.end_marks += 1
            yield from self._iter_members(headers)

    def _iter_members(self, headers: _BoundedHeaderStream) -> Iterator[ArchiveMember]:
        try:
            with tarfile.TarFile(fileobj=headers, mode="r", tarinfo=_FastTarInfo, **_NAMES) as archive:  # type: ignore[arg-type]  # duck-typed
                while (header := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # not in typeshed; it would keep all members
                    yield self._to_member(header)
        except (tarfile.TarError, ArithmeticError, LookupError, RecursionError, ValueError) as error:
            raise BrokenContainerError(str(error) or type(error).__name__) from error
        if headers.last_header.strip(b"\0"):
            raise BrokenContainerError("a header is damaged")
        if not headers.last_header:
            raise BrokenContainerError("it ends without an end mark: it may be truncated")

    def read_member(self, member: ArchiveMember) -> bytes:
        """Read the bytes of the member that was yielded last."""
        return self._stream.read(member.size)

    def _to_member(self, header: tarfile.TarInfo) -> ArchiveMember:
        kind = None if header.isreg() else _OTHERS.get(header.type, "special file")
        return ArchiveMember(
            name=header.name.encode(**_NAMES),
            how=self._how,
            offset=header.offset_data,
            stored=header.size,
            size=header.size,
            other="sparse file" if header.issparse() else kind,
        )


def member_body(block: bytes, size: int) -> bytes:
    """Check the header of a member and return its body.

    Args:
        block: Bytes of the archive, from `HEADER` bytes before the offset of the member to its end.
        size: Expected bytes of the body.

    Raises:
        ImageError: `TruncatedArchive` or `ArchiveChanged`.
    """
    if len(block) < HEADER + size:
        raise ImageError("TruncatedArchive", f"the archive ends {HEADER + size - len(block)} bytes too early")
    try:
        header = _FastTarInfo.frombuf(block[:HEADER], **_NAMES)
    except tarfile.HeaderError:
        header = None
    if header is None or header.size != size:
        raise archive_changed_error()
    return block[HEADER:]


class _FastTarInfo(tarfile.TarInfo):
    """A header; for plain files only name and size are parsed, which takes a third of the time."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        is_plain_file = (
            len(buf) == HEADER and buf[_KIND] == ord(tarfile.REGTYPE) and not buf[_PREFIX] and _USTAR in buf[_MAGIC]
        )
        if is_plain_file and _OCTAL.fullmatch(buf, *_SIZE) and _OCTAL.fullmatch(buf, *_CHECKSUM):
            checksum = sum(buf) - sum(buf[slice(*_CHECKSUM_FIELD)]) + len(range(*_CHECKSUM_FIELD)) * ord(" ")
            if int(buf[slice(*_CHECKSUM)], 8) == checksum:
                header = cls(bytes(buf[:_LONGEST_NAME]).partition(b"\0")[0].decode(encoding, errors))
                header.size = int(buf[slice(*_SIZE)], 8)
                return header
        return super().frombuf(buf, encoding, errors)


class _BoundedHeaderStream:
    """File for `tarfile` that limits the size of headers and only moves forward."""

    def __init__(self, stream: ForwardStream) -> None:
        self._stream = stream
        self._unread_header = b""
        self.last_header = b""
        """The last header that was read."""

    def skip_to_next_tar(self) -> bool:
        """Skip zero blocks; whether another tar follows.

        Raises:
            BrokenContainerError: If something else follows.
        """
        while (block := self._stream.read(HEADER)) and not block.strip(b"\0"):
            pass
        if not block:
            return False
        try:
            tarfile.TarInfo.frombuf(block, **_NAMES)
        except tarfile.HeaderError:
            count = len(block)
            while chunk := self._stream.read(_MAX_HEADER_BYTES):
                count += len(chunk)
            raise BrokenContainerError(f"{count:,} bytes after its end mark are not a tar and were skipped") from None
        self._unread_header = block
        return True

    def read(self, length: int) -> bytes:
        if length > _MAX_HEADER_BYTES:
            raise BrokenContainerError(f"a header has {length} bytes: expected at most {_MAX_HEADER_BYTES}")
        data = self._unread_header[:length]
        self._unread_header = self._unread_header[length:]
        data += self._stream.read(length - len(data)) if len(data) < length else b""
        if length == HEADER:
            self.last_header = data
        return data

    def seek(self, position: int) -> None:
        self._unread_header = b""
        self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell() - len(self._unread_header)
