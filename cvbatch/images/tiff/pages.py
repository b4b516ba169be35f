"""Which directory of a TIFF is the picture: never a thumbnail, a mask or a preview that is smaller than the photo.

Kinds of directories: TIFF 6.0, section 8 (NewSubfileType); DNG 1.7, chapter 2; TIFF/EP (ISO 12234-2), 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cvbatch.errors import ImageError
from cvbatch.images.jpeg_layout import Layout, read_layout
from cvbatch.images.jpeg_unusual import LOSSLESS
from cvbatch.images.tiff.directory import Directory, Tag, all_directories, children
from cvbatch.images.tiff.meaning import COLOURS

_FULL: Final = (0, 2)
"""Values of NewSubfileType that say a picture, or a page of several, at full resolution."""
_OLD_FULL: Final = (1, 3)
_RAW: Final = (32803, 34892)
_NEARLY: Final = 0.9
"""Sensors are some pixels larger than the photos that are made of them."""


@dataclass(frozen=True, slots=True)
class Page:
    """The directory that is the picture, and the one that says which side is up."""

    directory: Directory
    upright: Directory


def main_page(first: Directory) -> Page:
    """Choose the picture of a file.

    The first page is it, as with all formats. If that says it is a reduced copy or a mask, it is the first full one; in
    a raw photo, the largest that is about as large as the photo.

    Raises:
        ImageError: `UnsupportedImage`, where there is none.
    """
    below = children(first)
    raw = _raw_kind(first, [first, *below])
    if raw is None and _is_full(first):
        return Page(_largest([first, *(child for child in below if _holds(first, child))]), first)
    everything = all_directories(first)
    sensors = [size_of(directory) for directory in everything if _is_raw(directory)]
    if sensors:
        return Page(_developed(everything, max(sensors), raw or "raw photo"), first)
    pages = [directory for directory in everything if _is_full(directory)]
    if not pages:
        raise ImageError("UnsupportedImage", f"cannot read this TIFF: it holds only {_reduced(everything)}; {_WHOLE}")
    inside = [directory for directory in below if _is_full(directory)]
    chosen = _largest(inside) if inside and not _is_full(first) else pages[0]
    is_below = any(chosen.at == child.at for child in below)
    return Page(chosen, first if is_below else chosen)


_WHOLE: Final = "give the whole picture as JPEG, PNG or TIFF"


def size_of(directory: Directory) -> tuple[int, int]:
    """(width, height) in pixels, by the tags or by the JPEG that it holds; zeros if neither says."""
    size = directory.number(Tag.WIDTH), directory.number(Tag.HEIGHT)
    if all(size):
        return size
    layout = read_layout(jpeg_of(directory) or b"")
    if layout is None:
        return 0, 0
    # Canon's sensors are stored as lossless JPEGs of some components side by side.
    return layout.size[0] * (layout.channels if _is_lossless(layout) else 1), layout.size[1]


def jpeg_of(directory: Directory) -> bytes | None:
    """The JPEG file that a directory holds as its picture, as it was done before 1995 and is in raw photos."""
    if directory.number(Tag.COMPRESSION, 1) != 6:
        return None
    begin, length = directory.number(Tag.JPEG_OFFSET), directory.number(Tag.JPEG_LENGTH)
    if not begin:
        offsets, lengths = directory.numbers(Tag.STRIP_OFFSETS), directory.numbers(Tag.STRIP_BYTE_COUNTS)
        if len(offsets) != 1:
            return None
        begin, length = offsets[0], lengths[0] if lengths else 0
    if directory.data[begin : begin + 2] != b"\xff\xd8":
        return None
    return directory.data[begin : begin + length if length else len(directory.data)]


def _is_full(directory: Directory) -> bool:
    if Tag.NEW_SUBFILE_TYPE in directory:
        return directory.number(Tag.NEW_SUBFILE_TYPE) in _FULL
    return directory.number(Tag.SUBFILE_TYPE, 1) in _OLD_FULL


def _is_raw(directory: Directory) -> bool:
    if directory.number(Tag.PHOTOMETRIC, -1) in _RAW:
        return True
    layout = read_layout(jpeg_of(directory) or b"")
    return layout is not None and _is_lossless(layout)


def _is_lossless(layout: Layout) -> bool:
    return layout.frame.marker == LOSSLESS


def _raw_kind(first: Directory, near: list[Directory]) -> str | None:
    """What people call the raw photo that this is; None for others."""
    if Tag.DNG_VERSION in first:
        return "raw photo (DNG)"
    if first.data[8:10] == b"CR":
        return "raw photo (CR2)"
    if not any(_is_raw(directory) for directory in near):
        return None
    maker = first.raw(Tag.MAKE).partition(b"\0")[0].decode("ascii", "replace").split()
    return f"raw photo ({maker[0]})" if maker else "raw photo"


def _holds(parent: Directory, child: Directory) -> bool:
    """Whether the picture is below a smaller copy that does not say so."""
    (width, height), (inner_width, inner_height) = size_of(parent), size_of(child)
    return _is_full(child) and inner_width > width and inner_height > height


def _developed(everything: list[Directory], sensor: tuple[int, int], kind: str) -> Directory:
    pictures = [directory for directory in everything if _is_picture(directory)]
    large = [directory for directory in pictures if _is_as_large(size_of(directory), sensor)]
    if large:
        return _largest(large)
    best = max((size_of(directory) for directory in pictures), default=(0, 0))
    preview = f", only a preview of {best[0]} x {best[1]}" if all(best) else ""
    raise ImageError(
        "UnsupportedImage",
        f"this is a {kind} of {sensor[0]} x {sensor[1]} with no full-size picture in it{preview}; {_EXPORT}",
    )


_EXPORT: Final = "export it as JPEG or TIFF"


def _is_picture(directory: Directory) -> bool:
    kind = directory.number(Tag.NEW_SUBFILE_TYPE)
    coloured = directory.number(Tag.PHOTOMETRIC, 6 if jpeg_of(directory) else -1) in COLOURS
    return coloured and not _is_raw(directory) and not kind & ~0x10003


def _is_as_large(size: tuple[int, int], sensor: tuple[int, int]) -> bool:
    return all(side >= _NEARLY * whole for side, whole in zip(size, sensor, strict=True))


def _largest(directories: list[Directory]) -> Directory:
    return max(directories, key=lambda directory: size_of(directory)[0] * size_of(directory)[1])


def _reduced(everything: list[Directory]) -> str:
    masks = all(directory.number(Tag.NEW_SUBFILE_TYPE) & 4 for directory in everything)
    width, height = size_of(everything[0])
    return "a mask" if masks else f"a reduced copy of a picture, {width} x {height}"
