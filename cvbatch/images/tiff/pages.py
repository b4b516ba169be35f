"""Choose the directory of a TIFF that is the picture, not a thumbnail, a mask or a small preview.

Source of the kinds of directories: TIFF 6.0, section 8 (NewSubfileType); DNG 1.7, chapter 2; TIFF/EP (ISO 12234-2), 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cvbatch.errors import ImageError
from cvbatch.images.jpeg_layout import JpegLayout, read_jpeg_layout
from cvbatch.images.jpeg_unusual import LOSSLESS_FRAME
from cvbatch.images.tiff.directory import TiffDirectory, TiffTag, read_all_directories, read_sub_directories
from cvbatch.images.tiff.pixel_format import COLOUR_SAMPLES

FULL_RESOLUTION_TYPES: Final = (0, 2)
"""Values of NewSubfileType for a picture, or one page of several, at full resolution."""
OLD_FULL_RESOLUTION_TYPES: Final = (1, 3)
RAW_PHOTOMETRICS: Final = (32803, 34892)
_MIN_SIDE_RATIO: Final = 0.9
"""Smallest ratio of a photo's sides to the sensor's; sensors are some pixels larger than their photos."""


@dataclass(frozen=True, slots=True)
class MainPage:
    """Directory of the picture, and the directory with its orientation if the first has none."""

    directory: TiffDirectory
    orientation_source: TiffDirectory


def select_main_page(first: TiffDirectory) -> MainPage:
    """Choose the picture of a file.

    As in all formats, this is the first page. If the first page is declared a reduced copy or a mask, it is the first
    page at full resolution; in a raw photo, the largest picture of about the sensor's size.

    Raises:
        ImageError: `UnsupportedImage`, if there is no such picture.
    """
    children = read_sub_directories(first)
    raw_kind = _describe_raw_photo(first, [first, *children])
    if raw_kind is None and _is_full_resolution(first):
        larger_children = [child for child in children if _has_larger_child(first, child)]
        return MainPage(_select_largest([first, *larger_children]), first)
    directories = read_all_directories(first)
    sensors = [read_picture_size(directory) for directory in directories if _is_raw_sensor(directory)]
    if sensors:
        return MainPage(_select_developed_photo(directories, max(sensors), raw_kind or "raw photo"), first)
    pages = [directory for directory in directories if _is_full_resolution(directory)]
    if not pages:
        raise ImageError(
            "UnsupportedImage",
            f"cannot read this TIFF: it contains only {_describe_reduced_copy(directories)}; {_WHOLE_PICTURE_HINT}",
        )
    full_children = [child for child in children if _is_full_resolution(child)]
    chosen = _select_largest(full_children) if full_children and not _is_full_resolution(first) else pages[0]
    is_child = any(chosen.offset == child.offset for child in children)
    return MainPage(chosen, first if is_child else chosen)


_WHOLE_PICTURE_HINT: Final = "provide the full picture as JPEG, PNG or TIFF"


def read_picture_size(directory: TiffDirectory) -> tuple[int, int]:
    """Read (width, height) in pixels from the tags or the embedded JPEG; (0, 0) if neither has it."""
    size = directory.get_integer(TiffTag.WIDTH), directory.get_integer(TiffTag.HEIGHT)
    if all(size):
        return size
    layout = read_jpeg_layout(read_embedded_jpeg(directory) or b"")
    if layout is None:
        return 0, 0
    # Canon stores sensor data as a lossless JPEG with several components side by side.
    return layout.size[0] * (layout.channel_count if _is_lossless_jpeg(layout) else 1), layout.size[1]


def read_embedded_jpeg(directory: TiffDirectory) -> bytes | None:
    """Return the JPEG file embedded as a directory's picture, as before 1995 and in raw photos; None for others."""
    if directory.get_integer(TiffTag.COMPRESSION, 1) != 6:
        return None
    start, length = directory.get_integer(TiffTag.JPEG_OFFSET), directory.get_integer(TiffTag.JPEG_LENGTH)
    if not start:
        offsets, lengths = (
            directory.get_integers(TiffTag.STRIP_OFFSETS),
            directory.get_integers(TiffTag.STRIP_BYTE_COUNTS),
        )
        if len(offsets) != 1:
            return None
        start, length = offsets[0], lengths[0] if lengths else 0
    if directory.data[start : start + 2] != b"\xff\xd8":
        return None
    return directory.data[start : start + length if length else len(directory.data)]


def _is_full_resolution(directory: TiffDirectory) -> bool:
    if TiffTag.NEW_SUBFILE_TYPE in directory:
        return directory.get_integer(TiffTag.NEW_SUBFILE_TYPE) in FULL_RESOLUTION_TYPES
    return directory.get_integer(TiffTag.SUBFILE_TYPE, 1) in OLD_FULL_RESOLUTION_TYPES


def _is_raw_sensor(directory: TiffDirectory) -> bool:
    if directory.get_integer(TiffTag.PHOTOMETRIC, -1) in RAW_PHOTOMETRICS:
        return True
    layout = read_jpeg_layout(read_embedded_jpeg(directory) or b"")
    return layout is not None and _is_lossless_jpeg(layout)


def _is_lossless_jpeg(layout: JpegLayout) -> bool:
    return layout.frame.marker == LOSSLESS_FRAME


def _describe_raw_photo(first: TiffDirectory, directories: list[TiffDirectory]) -> str | None:
    """Return the common name of a raw photo; None for other files."""
    if TiffTag.DNG_VERSION in first:
        return "raw photo (DNG)"
    if first.data[8:10] == b"CR":
        return "raw photo (CR2)"
    if not any(_is_raw_sensor(directory) for directory in directories):
        return None
    maker = first.get_bytes(TiffTag.MAKE).partition(b"\0")[0].decode("ascii", "replace").split()
    return f"raw photo ({maker[0]})" if maker else "raw photo"


def _has_larger_child(parent: TiffDirectory, child: TiffDirectory) -> bool:
    """Whether a directory is an undeclared smaller copy of a picture in its subdirectory."""
    (width, height), (child_width, child_height) = read_picture_size(parent), read_picture_size(child)
    return _is_full_resolution(child) and child_width > width and child_height > height


def _select_developed_photo(directories: list[TiffDirectory], sensor: tuple[int, int], kind: str) -> TiffDirectory:
    pictures = [directory for directory in directories if _is_developed_picture(directory)]
    full_size = [directory for directory in pictures if _is_nearly_as_large(read_picture_size(directory), sensor)]
    if full_size:
        return _select_largest(full_size)
    largest = max((read_picture_size(directory) for directory in pictures), default=(0, 0))
    preview = f", only a preview of {largest[0]} x {largest[1]}" if all(largest) else ""
    raise ImageError(
        "UnsupportedImage",
        f"this is a {kind} of {sensor[0]} x {sensor[1]} with no full-size picture in it{preview}; {_EXPORT_HINT}",
    )


_EXPORT_HINT: Final = "export it as JPEG or TIFF"


def _is_developed_picture(directory: TiffDirectory) -> bool:
    kind = directory.get_integer(TiffTag.NEW_SUBFILE_TYPE)
    default = 6 if read_embedded_jpeg(directory) else -1
    has_colours = directory.get_integer(TiffTag.PHOTOMETRIC, default) in COLOUR_SAMPLES
    return has_colours and not _is_raw_sensor(directory) and not kind & ~0x10003


def _is_nearly_as_large(size: tuple[int, int], sensor: tuple[int, int]) -> bool:
    return all(side >= _MIN_SIDE_RATIO * sensor_side for side, sensor_side in zip(size, sensor, strict=True))


def _select_largest(directories: list[TiffDirectory]) -> TiffDirectory:
    return max(directories, key=lambda directory: read_picture_size(directory)[0] * read_picture_size(directory)[1])


def _describe_reduced_copy(directories: list[TiffDirectory]) -> str:
    are_masks = all(directory.get_integer(TiffTag.NEW_SUBFILE_TYPE) & 4 for directory in directories)
    width, height = read_picture_size(directories[0])
    return "a mask" if are_masks else f"a reduced copy of a picture, {width} x {height}"
