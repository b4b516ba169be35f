"""Pictures in which nothing is edited: only their metadata changes, and nothing is decoded where a format allows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from cvbatch.edits.metadata import kept_exif, kept_xmp
from cvbatch.images.exif import is_transposed, parse_exif_block, read_orientation
from cvbatch.images.formats import identify_format
from cvbatch.images.jpeg_copy import copy_jpeg
from cvbatch.images.jpeg_layout import read_jpeg_layout
from cvbatch.images.jpeg_metadata import EXIF_IDENTIFIER, find_exif_block, find_xmp_packet
from cvbatch.images.png_chunks import read_png_chunks
from cvbatch.images.png_copy import copy_png
from cvbatch.images.preprocess import Size


def copy_picture(data: bytes, size: Size, *, keep_metadata: bool) -> bytes | None:
    """Copy a file with its pixels as they are coded, and with the metadata that may stay.

    Args:
        data: The whole file.
        size: (width, height) of the oriented original, as the run has seen it.
        keep_metadata: Whether Exif and XMP stay; see `cvbatch.edits.writing.encode_picture`.

    Returns:
        None if this needs the pixels: other formats, animations, files with something unusual.

    Raises:
        ImageError: The file is damaged.
    """
    copy = _COPIES.get(identify_format(data).name)
    return None if copy is None else copy(data, size, keep_metadata)


def _copy_jpeg(data: bytes, size: Size, keep_metadata: bool) -> bytes | None:
    layout = read_jpeg_layout(data)
    if layout is None:
        return None
    block, xmp = find_exif_block(layout.segments), find_xmp_packet(layout.segments)
    exif, orientation = _kept_blocks(block, xmp, keep_metadata)
    if not _has_size(layout.size, orientation, size):
        return None
    return copy_jpeg(layout, exif=exif, xmp=kept_xmp(xmp) if keep_metadata else None)


def _copy_png(data: bytes, size: Size, keep_metadata: bool) -> bytes | None:
    chunks = read_png_chunks(data)
    exif, orientation = _kept_blocks(chunks.exif, chunks.xmp, keep_metadata)
    if not _has_size((chunks.width, chunks.height), orientation, size):
        return None
    block = None if exif is None else exif.removeprefix(EXIF_IDENTIFIER)
    return copy_png(data, exif=block, xmp=kept_xmp(chunks.xmp) if keep_metadata else None)


def _kept_blocks(block: bytes | None, xmp: bytes | None, keep_metadata: bool) -> tuple[bytes | None, int]:
    """The Exif block that stays, and the orientation."""
    tags = None if block is None else parse_exif_block(block)
    orientation = read_orientation(tags, xmp)
    return kept_exif(tags if keep_metadata else None, orientation), orientation


def _has_size(stored: Size, orientation: int, size: Size) -> bool:
    return tuple(size) == (stored[::-1] if is_transposed(orientation) else stored)


_COPIES: Final[Mapping[str, Callable[[bytes, Size, bool], bytes | None]]] = {"jpeg": _copy_jpeg, "png": _copy_png}
