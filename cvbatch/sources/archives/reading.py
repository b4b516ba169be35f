"""The members of one archive that a unit asks for."""

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
    """Members at known places, read in any order."""

    def read_image(self, index: int) -> bytes:
        """Read an image.

        Raises:
            ImageError: See `body`.
        """
        offset, size = self._wanted[index][0].byte_range
        return member_body(self._blob.open_once().read_range(offset - HEADER, HEADER + size), size)


class ZipReader(ContainerReader):
    """Members at known places, read in any order."""

    def read_image(self, index: int) -> bytes:
        """Read an image.

        Raises:
            ImageError: See `read_member`.
        """
        span, length = self._wanted[index]
        return read_zip_member(self._blob.open_once(), span, length or 0)


class PackedTarReader(ContainerReader):
    """Members that can only be reached from the beginning: one pass, in the order of the archive.

    What another thread asks for later is kept until then.
    """

    def __init__(self, blob: LazyBlob, wanted: Sequence[Wanted]) -> None:
        super().__init__(blob, wanted)
        self._places = [span.byte_range for span, _ in wanted]
        self._how = wanted[0][0].how
        self._left = sorted(range(len(wanted)), key=lambda at: self._places[at], reverse=True)
        self._done: dict[int, bytes | ImageError] = {}
        self._stream: ForwardStream | None = None
        self._lock = threading.Lock()

    def read_image(self, index: int) -> bytes:
        """Read an image.

        Raises:
            ImageError: `DamagedArchive`, or see `body`.
        """
        with self._lock:
            while index not in self._done:
                self._read_next_member()
            found = self._done.pop(index)
        if isinstance(found, ImageError):
            raise ImageError(found.kind, str(found))
        return found

    def _read_next_member(self) -> None:
        if self._stream is None:
            self._stream = ForwardStream(self._blob.open_once(), self._how)
        at = self._left[-1]
        offset, size = self._places[at]
        try:
            self._stream.seek(offset - HEADER)
            self._done[at] = member_body(self._stream.read(HEADER + size), size)
        except ImageError as error:
            self._done[at] = error
        except BrokenContainerError as error:
            self._done[at] = ImageError("DamagedArchive", str(error))
        except OSError:
            self._stream = None  # the next image begins anew, as the stream stands nowhere
            raise
        self._left.pop()
