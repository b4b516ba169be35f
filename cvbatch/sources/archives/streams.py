"""Forward-only stream of the bytes of a tar, plain or decompressed, with a limit against bombs."""

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
"""Errors of truncated or damaged compressed streams."""

_CHUNK_BYTES: Final = 1 << 20
_FREE_BYTES: Final = EnvironmentNumber("CVBATCH_UNPACKED_BYTES", 1 << 30)
_MAX_RATIO: Final = 200
"""An archive that unpacks to more than this many times its size plus `CVBATCH_UNPACKED_BYTES` is a bomb."""


class ForwardStream:
    """A stream that only moves forward.

    Args:
        blob: Bytes of the archive.
        how: One of `TAR`, `TAR_GZIP`, `TAR_ZSTD`.
    """

    def __init__(self, blob: ByteBlob, compression: str) -> None:
        self._packed = compression != TAR
        self._file = _OPENERS[compression](blob)
        self._max_bytes = (
            _FREE_BYTES.current_value + _MAX_RATIO * blob.byte_size() if self._packed else blob.byte_size()
        )
        self._position = 0

    def tell(self) -> int:
        """Position in the unpacked stream."""
        return self._position

    def seek(self, position: int) -> None:
        """Move forward to a position.

        Raises:
            BrokenContainerError: If the position is behind the current one, or beyond the limit for unpacked bytes.
        """
        if position < self._position:
            raise BrokenContainerError("its headers point backwards")
        if not self._packed:
            self._file.seek(position)
            self._position = position
            return
        while self._position < position and self.read(min(_CHUNK_BYTES, position - self._position)):
            pass

    def read(self, length: int) -> bytes:
        """Read `length` bytes; fewer only at the end.

        Raises:
            BrokenContainerError: If the archive unpacks to more than the limit, or the compressed stream is damaged.
        """
        if self._packed and self._position + length > self._max_bytes:
            raise BrokenContainerError(f"it unpacks to more than {self._max_bytes} bytes")
        try:
            data = self._file.read(length)
        except DAMAGE as error:
            raise BrokenContainerError(str(error) or "it is truncated") from error
        self._position += len(data)
        return data


def _open_zstd(blob: ByteBlob) -> BinaryIO:
    reader: BinaryIO = zstandard.ZstdDecompressor().stream_reader(
        blob.open_stream(), read_across_frames=True, closefd=True
    )
    return reader


def _open_gzip(blob: ByteBlob) -> BinaryIO:
    return gzip.GzipFile(fileobj=blob.open_stream(), mode="rb")  # type: ignore[return-value]  # behaves like any file


_OPENERS: Final[dict[str, Callable[[ByteBlob], BinaryIO]]] = {
    TAR: open_buffered,
    TAR_GZIP: _open_gzip,
    TAR_ZSTD: _open_zstd,
}
