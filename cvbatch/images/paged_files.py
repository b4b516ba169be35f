"""Pages of files that hold several pictures: which there are, and each as an encoded image of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cvbatch.errors import ImageError
from cvbatch.images.byte_ranges import ByteRanges, CachedRanges, read_all
from cvbatch.images.formats import identify_format
from cvbatch.images.frame_counts import count_frames
from cvbatch.images.frames import FrameSequence
from cvbatch.images.tiff.page_chain import is_full_page, is_raw_page, iter_directories, read_tiff_header
from cvbatch.images.tiff.page_copy import TiffPages

_TIFF: Final = "tiff"
_SIGNATURE_BYTES: Final = 512
_FIRST: Final = range(1, 2)


@dataclass(frozen=True, slots=True)
class PageNumbers:
    """Which pages a file has."""

    numbers: Sequence[int]
    """From 1 on, in order; those of TIFFs may have gaps, where reduced copies and masks are."""
    problem: str | None = None
    """Why there may be more."""
    page_bytes: int | None = None
    """Bytes of each as it is handed on, about; None if they are a share of those of the file."""


def find_pages(file: ByteRanges, max_pages: int) -> PageNumbers:
    """Find the pages of a file from its headers, without decoding a picture.

    Args:
        file: The file; of a TIFF, a PNG and a WebP only some kilobytes are read.
        max_pages: Counting ends after one page more.

    Returns:
        All frames of an animation; all directories in the chain of a TIFF, except reduced copies and masks; only 1 for
        raw photos and for files of all other formats.

    Raises:
        ImageError: Only if the file cannot be read at all.
    """
    file = CachedRanges(file)
    if _has_tiff_signature(file):
        return _find_tiff_pages(file, max_pages)
    try:
        found = count_frames(file, max_pages)
        return PageNumbers(range(1, found.count + 1), page_bytes=found.frame_bytes)
    except ImageError as error:
        return PageNumbers(_FIRST, str(error))


def _find_tiff_pages(file: ByteRanges, max_pages: int) -> PageNumbers:
    numbers = list[int]()
    problem = None
    try:
        header, offset = read_tiff_header(file)
        for number, directory in enumerate(iter_directories(file, header, offset), 1):
            if is_raw_page(file, header, directory):
                return PageNumbers(_FIRST)
            if is_full_page(file, header, directory):
                numbers.append(number)
            if len(numbers) > max_pages:
                break
    except ImageError as error:
        problem = str(error)
    has_gaps = numbers != list(range(1, len(numbers) + 1))
    return PageNumbers(tuple(numbers) if has_gaps else range(1, len(numbers) + 1) or _FIRST, problem)


class PagedFile:
    """A file whose pages are read; for several threads.

    Args:
        file: The file. Of a TIFF, only what a page needs is read.

    Raises:
        ImageError: As `FrameSequence` and `TiffPages`.
    """

    def __init__(self, file: ByteRanges) -> None:
        self._lock = threading.Lock()
        self._tiff = TiffPages(CachedRanges(file)) if _has_tiff_signature(file) else None
        self._frames = FrameSequence(read_all(file)) if self._tiff is None else None

    def encode_page(self, number: int) -> bytes:
        """Return a page as an image file: a page of a TIFF as a TIFF, the frame of an animation as a PNG.

        Raises:
            ImageError: As `FrameSequence.encode_frame` and `TiffPages.copy_page`.
        """
        if self._tiff is not None:
            return self._tiff.copy_page(number)
        assert self._frames is not None, "one of both is there"
        with self._lock:
            return self._frames.encode_frame(number)


def _has_tiff_signature(file: ByteRanges) -> bool:
    try:
        return identify_format(file.read_range(0, _SIGNATURE_BYTES)).name == _TIFF
    except ImageError:
        return False
