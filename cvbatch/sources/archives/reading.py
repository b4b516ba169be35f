"""Readers of the members of one archive that a unit needs."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from cvbatch.errors import ImageError
from cvbatch.sources.archives.streams import ForwardStream
from cvbatch.sources.archives.tars import HEADER, member_body
from cvbatch.sources.archives.zips import read_zip_member
from cvbatch.sources.fetch.blob import BrokenContainerError, LazyBlob
from cvbatch.sources.fetch.container_reader import ContainerReader, Wanted


class PlainTarReader(ContainerReader):
    """Reads members at known offsets, in any order."""

    def read_image(self, index: int) -> bytes:
        """Read an image.

        Raises:
            ImageError: As `member_body`.
        """
        offset, size = self._wanted[index][0].byte_range
        return member_body(self._blob.open_once().read_range(offset - HEADER, HEADER + size), size)


class ZipReader(ContainerReader):
    """Reads members at known offsets, in any order."""

    def read_image(self, index: int) -> bytes:
        """Read an image.

        Raises:
            ImageError: As `read_zip_member`.
        """
        span, length = self._wanted[index]
        return read_zip_member(self._blob.open_once(), span, length or 0)


class PackedTarReader(ContainerReader):
    """Reads members of a compressed tar in one pass, in the order of the archive.

    Members that are read before they are requested are held until then.
    """

    def __init__(self, blob: LazyBlob, wanted_spans: Sequence[Wanted]) -> None:
        super().__init__(blob, wanted_spans)
        self._byte_ranges = [span.byte_range for span, _ in wanted_spans]
        self._how = wanted_spans[0][0].how
        self._remaining = sorted(range(len(wanted_spans)), key=lambda index: self._byte_ranges[index], reverse=True)
        self._results: dict[int, bytes | ImageError] = {}
        self._stream: ForwardStream | None = None
        self._lock = threading.Lock()

    def read_image(self, index: int) -> bytes:
        """Read an image.

        Raises:
            ImageError: `DamagedArchive`, or as `member_body`.
        """
        with self._lock:
            while index not in self._results:
                self._read_next_member()
            result = self._results.pop(index)
        if isinstance(result, ImageError):
            raise ImageError(result.kind, str(result))
        return result

    def _read_next_member(self) -> None:
        if self._stream is None:
            self._stream = ForwardStream(self._blob.open_once(), self._how)
        index = self._remaining[-1]
        offset, size = self._byte_ranges[index]
        try:
            self._stream.seek(offset - HEADER)
            self._results[index] = member_body(self._stream.read(HEADER + size), size)
        except ImageError as error:
            self._results[index] = error
        except BrokenContainerError as error:
            self._results[index] = ImageError("DamagedArchive", str(error))
        except OSError:
            self._stream = None  # the position is unknown, so the next image starts a new pass
            raise
        self._remaining.pop()
