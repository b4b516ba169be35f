"""The members of one archive that a unit asks for."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from cvbatch.errors import ImageError
from cvbatch.sources.archives.streams import Forward
from cvbatch.sources.archives.tars import HEADER, body
from cvbatch.sources.archives.zips import read_member
from cvbatch.sources.fetch.blob import BrokenContainerError, OpenedOnce
from cvbatch.sources.fetch.container_reader import Reader, Wanted


class PlainTar(Reader):
    """Members at known places, read in any order."""

    def read(self, at: int) -> bytes:
        """Read an image.

        Raises:
            ImageError: See `body`.
        """
        offset, size = self._wanted[at][0].place
        return body(self._blob.get().read(offset - HEADER, HEADER + size), size)


class Zip(Reader):
    """Members at known places, read in any order."""

    def read(self, at: int) -> bytes:
        """Read an image.

        Raises:
            ImageError: See `read_member`.
        """
        span, length = self._wanted[at]
        return read_member(self._blob.get(), span, length or 0)


class PackedTar(Reader):
    """Members that can only be reached from the beginning: one pass, in the order of the archive.

    What another thread asks for later is kept until then.
    """

    def __init__(self, blob: OpenedOnce, wanted: Sequence[Wanted]) -> None:
        super().__init__(blob, wanted)
        self._places = [span.place for span, _ in wanted]
        self._how = wanted[0][0].how
        self._left = sorted(range(len(wanted)), key=lambda at: self._places[at], reverse=True)
        self._done: dict[int, bytes | ImageError] = {}
        self._stream: Forward | None = None
        self._lock = threading.Lock()

    def read(self, at: int) -> bytes:
        """Read an image.

        Raises:
            ImageError: `DamagedArchive`, or see `body`.
        """
        with self._lock:
            while at not in self._done:
                self._go_on()
            found = self._done.pop(at)
        if isinstance(found, ImageError):
            raise ImageError(found.kind, str(found))
        return found

    def _go_on(self) -> None:
        if self._stream is None:
            self._stream = Forward(self._blob.get(), self._how)
        at = self._left[-1]
        offset, size = self._places[at]
        try:
            self._stream.seek(offset - HEADER)
            self._done[at] = body(self._stream.read(HEADER + size), size)
        except ImageError as error:
            self._done[at] = error
        except BrokenContainerError as error:
            self._done[at] = ImageError("DamagedArchive", str(error))
        except OSError:
            self._stream = None  # the next image begins anew, as the stream stands nowhere
            raise
        self._left.pop()
