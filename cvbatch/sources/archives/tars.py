"""Tar: headers one after the other; the bodies between them are skipped."""

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
"""Names and attributes that need more are not honest; `tarfile` would read gigabytes."""
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
    """The members of a tar, plain or packed.

    Args:
        blob: The shard.
        how: How it is packed; see `Forward`.
    """

    def __init__(self, blob: ByteBlob, how: str) -> None:
        self._how = how
        self._stream = ForwardStream(blob, how)
        self.end_marks = 0

    def __iter__(self) -> Iterator[ArchiveMember]:
        """Yield the members in their order; one that a damage cuts off is still named.

        What follows the end mark is read if it is another tar, as `cat a.tar b.tar` makes them.
        """
        headers = _BoundedHeaderStream(self._stream)
        yield from self._iter_members(headers)
        while headers.skip_to_next_tar():
            self.end_marks += 1
            yield from self._iter_members(headers)

    def _iter_members(self, headers: _BoundedHeaderStream) -> Iterator[ArchiveMember]:
        try:
            with tarfile.TarFile(fileobj=headers, mode="r", tarinfo=_FastTarInfo, **_NAMES) as archive:  # type: ignore[arg-type]  # duck
                while (found := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # not in typeshed; it would keep all
                    yield self._to_member(found)
        except (tarfile.TarError, ArithmeticError, LookupError, RecursionError, ValueError) as error:
            raise BrokenContainerError(str(error) or type(error).__name__) from error
        if headers.last.strip(b"\0"):
            raise BrokenContainerError("a header is damaged")
        if not headers.last:
            raise BrokenContainerError("it ends without an end mark: it may be cut")

    def read_member(self, member: ArchiveMember) -> bytes:
        """Read the bytes of the member that was yielded last."""
        return self._stream.read(member.size)

    def _to_member(self, found: tarfile.TarInfo) -> ArchiveMember:
        other = None if found.isreg() else _OTHERS.get(found.type, "special file")
        return ArchiveMember(
            name=found.name.encode(**_NAMES),
            how=self._how,
            offset=found.offset_data,
            stored=found.size,
            size=found.size,
            other="sparse file" if found.issparse() else other,
        )


def member_body(block: bytes, size: int) -> bytes:
    """The bytes of a member from what lies at its place, header included.

    Args:
        block: `HEADER` bytes before its offset, and as many as it has from there on.
        size: Bytes that it should have.

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
    """A header; of plain files, which are nearly all, only name and size are read, in a third of the time."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        plain = len(buf) == HEADER and buf[_KIND] == ord(tarfile.REGTYPE) and not buf[_PREFIX] and _USTAR in buf[_MAGIC]
        if plain and _OCTAL.fullmatch(buf, *_SIZE) and _OCTAL.fullmatch(buf, *_CHECKSUM):
            total = sum(buf) - sum(buf[slice(*_CHECKSUM_FIELD)]) + len(range(*_CHECKSUM_FIELD)) * ord(" ")
            if int(buf[slice(*_CHECKSUM)], 8) == total:
                found = cls(bytes(buf[:_LONGEST_NAME]).partition(b"\0")[0].decode(encoding, errors))
                found.size = int(buf[slice(*_SIZE)], 8)
                return found
        return super().frombuf(buf, encoding, errors)


class _BoundedHeaderStream:
    """What `tarfile` reads from: headers of a bounded size, forward only."""

    def __init__(self, stream: ForwardStream) -> None:
        self._stream = stream
        self._ahead = b""
        self.last = b""
        """The header that was read last."""

    def skip_to_next_tar(self) -> bool:
        """Whether a tar follows an end mark, behind as many zeros as there may be.

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
            while piece := self._stream.read(_MAX_HEADER_BYTES):
                count += len(piece)
            raise BrokenContainerError(
                f"{count:,} bytes that are no tar follow its end mark, and are left out"
            ) from None
        self._ahead = block
        return True

    def read(self, length: int) -> bytes:
        if length > _MAX_HEADER_BYTES:
            raise BrokenContainerError(f"a header of {length} bytes")
        data = self._ahead[:length]
        self._ahead = self._ahead[length:]
        data += self._stream.read(length - len(data)) if len(data) < length else b""
        if length == HEADER:
            self.last = data
        return data

    def seek(self, position: int) -> None:
        self._ahead = b""
        self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell() - len(self._ahead)
