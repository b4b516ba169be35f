"""Tar: headers one after the other; the bodies between them are skipped."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Final

from cvbatch.errors import ImageError
from cvbatch.sources.archives.members import FOLDER, Member
from cvbatch.sources.archives.streams import Forward
from cvbatch.sources.blobs import Blob, BrokenContainerError, changed

HEADER: Final = tarfile.BLOCKSIZE
_LONGEST_HEADER: Final = 64 << 10
"""Names and attributes that need more are not honest; `tarfile` would read gigabytes."""
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

    def __init__(self, blob: Blob, how: str) -> None:
        self._how = how
        self._stream = Forward(blob, how)

    def __iter__(self) -> Iterator[Member]:
        """Yield the members in their order; one that a damage cuts off is still named."""
        headers = _Headers(self._stream)
        try:
            with tarfile.TarFile(fileobj=headers, mode="r", **_NAMES) as archive:  # type: ignore[arg-type]  # duck
                while (found := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # not in typeshed; it would keep all
                    yield self._member(found)
        except (tarfile.TarError, ArithmeticError, LookupError, RecursionError, ValueError) as error:
            raise BrokenContainerError(str(error) or type(error).__name__) from error
        if headers.last.strip(b"\0"):
            raise BrokenContainerError("a header is damaged")
        if not headers.last:
            raise BrokenContainerError("it ends without an end mark: it may be cut")

    def read(self, member: Member) -> bytes:
        """Read the bytes of the member that was yielded last."""
        return self._stream.read(member.size)

    def _member(self, found: tarfile.TarInfo) -> Member:
        other = None if found.isreg() else _OTHERS.get(found.type, "special file")
        return Member(
            name=found.name.encode(**_NAMES),
            how=self._how,
            offset=found.offset_data,
            stored=found.size,
            size=found.size,
            other="sparse file" if found.issparse() else other,
        )


def body(block: bytes, size: int) -> bytes:
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
        header = tarfile.TarInfo.frombuf(block[:HEADER], **_NAMES)
    except tarfile.HeaderError:
        header = None
    if header is None or header.size != size:
        raise changed()
    return block[HEADER:]


class _Headers:
    """What `tarfile` reads from: headers of a bounded size, forward only."""

    def __init__(self, stream: Forward) -> None:
        self._stream = stream
        self.last = b""
        """The header that was read last."""

    def read(self, length: int) -> bytes:
        if length > _LONGEST_HEADER:
            raise BrokenContainerError(f"a header of {length} bytes")
        data = self._stream.read(length)
        if length == HEADER:
            self.last = data
        return data

    def seek(self, position: int) -> None:
        self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()
