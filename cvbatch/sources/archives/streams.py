"""The bytes of a tar from its beginning on: plain, or unpacked on the way, always forward and never too many."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import BinaryIO, Final

import zstandard

from cvbatch.sources.fetch.blob import BrokenContainerError, ByteBlob, open_buffered
from cvbatch.system.environment import EnvironmentNumber

TAR: Final = "tar"
TAR_GZIP: Final = "tar.gz"
TAR_ZSTD: Final = "tar.zst"
DAMAGE: Final = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)
"""What packed streams raise that are cut or damaged."""

_CHUNK_BYTES: Final = 1 << 20
_FREE_BYTES: Final = EnvironmentNumber("CVBATCH_UNPACKED_BYTES", 1 << 30)
_MAX_RATIO: Final = 200
"""An archive of images that unpacks to more than so many times its size, and that, is a bomb."""


class ForwardStream:
    """A stream that only goes forward.

    Args:
        blob: The shard.
        how: One of `TAR`, `TAR_GZIP`, `TAR_ZSTD`.
    """

    def __init__(self, blob: ByteBlob, how: str) -> None:
        self._packed = how != TAR
        self._file = _OPENERS[how](blob)
        self._end = _FREE_BYTES.current_value + _MAX_RATIO * blob.byte_size() if self._packed else blob.byte_size()
        self._at = 0

    def tell(self) -> int:
        """Position in the unpacked stream."""
        return self._at

    def seek(self, position: int) -> None:
        """Go forward to a position.

        Raises:
            BrokenContainerError: If it lies behind, or is further than any honest archive goes.
        """
        if position < self._at:
            raise BrokenContainerError("its headers lead backwards")
        if not self._packed:
            self._file.seek(position)
            self._at = position
            return
        while self._at < position and self.read(min(_CHUNK_BYTES, position - self._at)):
            pass

    def read(self, length: int) -> bytes:
        """Read so many bytes; less only at the end.

        Raises:
            BrokenContainerError: If more comes out than of any honest archive, or the packed stream is damaged.
        """
        if self._packed and self._at + length > self._end:
            raise BrokenContainerError(f"it unpacks to more than {self._end} bytes")
        try:
            data = self._file.read(length)
        except DAMAGE as error:
            raise BrokenContainerError(str(error) or "it is cut") from error
        self._at += len(data)
        return data


def _open_zstd(blob: ByteBlob) -> BinaryIO:
    reader: BinaryIO = zstandard.ZstdDecompressor().stream_reader(
        blob.open_stream(), read_across_frames=True, closefd=True
    )
    return reader


def _open_gzip(blob: ByteBlob) -> BinaryIO:
    return gzip.GzipFile(fileobj=blob.open_stream(), mode="rb")  # type: ignore[return-value]  # reads as any file


_OPENERS: Final[dict[str, Callable[[ByteBlob], BinaryIO]]] = {
    TAR: open_buffered,
    TAR_GZIP: _open_gzip,
    TAR_ZSTD: _open_zstd,
}
