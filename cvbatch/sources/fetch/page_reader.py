"""Reading of pages: a file is opened once for all of its pages in a unit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from cvbatch.errors import ImageError, PageError, try_call
from cvbatch.images.byte_ranges import ByteRanges
from cvbatch.images.paged_files import PagedFile

T = TypeVar("T")


class PageReader:
    """Reads the pages of one file that a unit needs, and lets go of the file after the last of them.

    Args:
        open_file: Opens the file, or fetches it as a whole; called once.
    """

    def __init__(self, open_file: Callable[[], ByteRanges]) -> None:
        self._open_file = open_file
        self._lock = threading.Lock()
        self._opened: PagedFile | Exception | None = None
        self._remaining = 0

    def expect_page(self) -> None:
        """Say that one more page will be read."""
        self._remaining += 1

    def read_page(self, number: int) -> bytes:
        """Read one page, as an image file of its own; called once for each expected page, by several threads.

        Raises:
            Exception: What opening the file has raised, for each of its pages.
            PageError: The errors of `PagedFile.encode_page`.
        """
        with self._lock:
            if self._opened is None:
                self._opened = try_call(self._open_paged_file)
            opened = self._opened
        try:
            if isinstance(opened, ImageError):
                raise type(opened)(opened.kind, str(opened))  # one that is raised again would keep all frames
            if isinstance(opened, Exception):
                raise opened
            return _decode(lambda: opened.encode_page(number))
        finally:
            with self._lock:
                self._remaining -= 1
                if self._remaining <= 0:
                    self._opened = None

    def _open_paged_file(self) -> PagedFile:
        file = self._open_file()
        return _decode(lambda: PagedFile(file))


def _decode(work: Callable[[], T]) -> T:
    """Call a function; what is wrong with the picture is no error of fetching it."""
    try:
        return work()
    except ImageError as error:
        raise PageError(error.kind, str(error)) from None
