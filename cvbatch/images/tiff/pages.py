"""Which directory of a TIFF is the picture: never a thumbnail, a mask or a preview that is smaller than the photo.

Kinds of directories: TIFF 6.0, section 8 (NewSubfileType); DNG 1.7, chapter 2; TIFF/EP (ISO 12234-2), 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cvbatch.errors import ImageError
from cvbatch.images.jpeg_layout import JpegLayout, read_jpeg_layout
from cvbatch.images.jpeg_unusual import LOSSLESS_FRAME
from cvbatch.images.tiff.directory import TiffDirectory, TiffTag, read_all_directories, read_sub_directories
from cvbatch.images.tiff.meaning import COLOUR_SAMPLES

_FULL_RESOLUTION_TYPES: Final = (0, 2)
"""Values of NewSubfileType that say a picture, or a page of several, at full resolution."""
_OLD_FULL_RESOLUTION_TYPES: Final = (1, 3)
_RAW_PHOTOMETRICS: Final = (32803, 34892)
_MIN_SIDE_RATIO: Final = 0.9
"""Sensors are some pixels larger than the photos that are made of them."""


@dataclass(frozen=True, slots=True)
class MainPage:
    """The directory that is the picture, and the one that says which side is up."""

    directory: TiffDirectory
    orientation_source: TiffDirectory


def select_main_page(first: TiffDirectory) -> MainPage:
    """Choose the picture of a file.

    The first page is it, as with all formats. If that says it is a reduced copy or a mask, it is the first full one; in
    a raw photo, the largest that is about as large as the photo.

    Raises:
        ImageError: `UnsupportedImage`, where there is none.
    """
    below = read_sub_directories(first)
    raw = _describe_raw_photo(first, [first, *below])
    if raw is None and _is_full_resolution(first):
        return MainPage(_select_largest([first, *(child for child in below if _has_larger_child(first, child))]), first)
    everything = read_all_directories(first)
    sensors = [read_picture_size(directory) for directory in everything if _is_raw_sensor(directory)]
    if sensors:
        return MainPage(_select_developed_photo(everything, max(sensors), raw or "raw photo"), first)
    pages = [directory for directory in everything if _is_full_resolution(directory)]
    if not pages:
        raise ImageError(
            "UnsupportedImage",
            f"cannot read this TIFF: it holds only {_describe_reduced_copy(everything)}; {_WHOLE_PICTURE_HINT}",
        )
    inside = [directory for directory in below if _is_full_resolution(directory)]
    chosen = _select_largest(inside) if inside and not _is_full_resolution(first) else pages[0]
    is_below = any(chosen.offset == child.offset for child in below)
    return MainPage(chosen, first if is_below else chosen)


_WHOLE_PICTURE_HINT: Final = "give the whole picture as JPEG, PNG or TIFF"


def read_picture_size(directory: TiffDirectory) -> tuple[int, int]:
    """(width, height) in pixels, by the tags or by the JPEG that it holds; zeros if neither says."""
    size = directory.get_integer(TiffTag.WIDTH), directory.get_integer(TiffTag.HEIGHT)
    if all(size):
        return size
    layout = read_jpeg_layout(read_embedded_jpeg(directory) or b"")
    if layout is None:
        return 0, 0
    # Canon's sensors are stored as lossless JPEGs of some components side by side.
    return layout.size[0] * (layout.channel_count if _is_lossless_jpeg(layout) else 1), layout.size[1]


def read_embedded_jpeg(directory: TiffDirectory) -> bytes | None:
    """The JPEG file that a directory holds as its picture, as it was done before 1995 and is in raw photos."""
    if directory.get_integer(TiffTag.COMPRESSION, 1) != 6:
        return None
    begin, length = directory.get_integer(TiffTag.JPEG_OFFSET), directory.get_integer(TiffTag.JPEG_LENGTH)
    if not begin:
        offsets, lengths = (
            directory.get_integers(TiffTag.STRIP_OFFSETS),
            directory.get_integers(TiffTag.STRIP_BYTE_COUNTS),
        )
        if len(offsets) != 1:
            return None
        begin, length = offsets[0], lengths[0] if lengths else 0
    if directory.data[begin : begin + 2] != b"\xff\xd8":
        return None
    return directory.data[begin : begin + length if length else len(directory.data)]


def _is_full_resolution(directory: TiffDirectory) -> bool:
    if TiffTag.NEW_SUBFILE_TYPE in directory:
        return directory.get_integer(TiffTag.NEW_SUBFILE_TYPE) in _FULL_RESOLUTION_TYPES
    return directory.get_integer(TiffTag.SUBFILE_TYPE, 1) in _OLD_FULL_RESOLUTION_TYPES


def _is_raw_sensor(directory: TiffDirectory) -> bool:
    if directory.get_integer(TiffTag.PHOTOMETRIC, -1) in _RAW_PHOTOMETRICS:
        return True
    layout = read_jpeg_layout(read_embedded_jpeg(directory) or b"")
    return layout is not None and _is_lossless_jpeg(layout)


def _is_lossless_jpeg(layout: JpegLayout) -> bool:
    return layout.frame.marker == LOSSLESS_FRAME


def _describe_raw_photo(first: TiffDirectory, nearest: list[TiffDirectory]) -> str | None:
    """What people call the raw photo that this is; None for others."""
    if TiffTag.DNG_VERSION in first:
        return "raw photo (DNG)"
    if first.data[8:10] == b"CR":
        return "raw photo (CR2)"
    if not any(_is_raw_sensor(directory) for directory in nearest):
        return None
    maker = first.get_bytes(TiffTag.MAKE).partition(b"\0")[0].decode("ascii", "replace").split()
    return f"raw photo ({maker[0]})" if maker else "raw photo"


def _has_larger_child(parent: TiffDirectory, child: TiffDirectory) -> bool:
    """Whether the picture is below a smaller copy that does not say so."""
    (width, height), (inner_width, inner_height) = read_picture_size(parent), read_picture_size(child)
    return _is_full_resolution(child) and inner_width > width and inner_height > height


def _select_developed_photo(directories: list[TiffDirectory], sensor: tuple[int, int], kind: str) -> TiffDirectory:
    pictures = [directory for directory in directories if _is_developed_picture(directory)]
    large = [directory for directory in pictures if _is_nearly_as_large(read_picture_size(directory), sensor)]
    if large:
        return _select_largest(large)
    best = max((read_picture_size(directory) for directory in pictures), default=(0, 0))
    preview = f", only a preview of {best[0]} x {best[1]}" if all(best) else ""
    raise ImageError(
        "UnsupportedImage",
        f"this is a {kind} of {sensor[0]} x {sensor[1]} with no full-size picture in it{preview}; {_EXPORT_HINT}",
    )


_EXPORT_HINT: Final = "export it as JPEG or TIFF"


def _is_developed_picture(directory: TiffDirectory) -> bool:
    kind = directory.get_integer(TiffTag.NEW_SUBFILE_TYPE)
    coloured = directory.get_integer(TiffTag.PHOTOMETRIC, 6 if read_embedded_jpeg(directory) else -1) in COLOUR_SAMPLES
    return coloured and not _is_raw_sensor(directory) and not kind & ~0x10003


def _is_nearly_as_large(size: tuple[int, int], sensor: tuple[int, int]) -> bool:
    return all(side >= _MIN_SIDE_RATIO * whole for side, whole in zip(size, sensor, strict=True))


def _select_largest(directories: list[TiffDirectory]) -> TiffDirectory:
    return max(directories, key=lambda directory: read_picture_size(directory)[0] * read_picture_size(directory)[1])


def _describe_reduced_copy(directories: list[TiffDirectory]) -> str:
    masks = all(directory.get_integer(TiffTag.NEW_SUBFILE_TYPE) & 4 for directory in directories)
    width, height = read_picture_size(directories[0])
    return "a mask" if masks else f"a reduced copy of a picture, {width} x {height}"
