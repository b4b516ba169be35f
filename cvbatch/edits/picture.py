"""A picture with its pixels as they are stored, so that those outside of a region stay what they are."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvbatch.edits.hiding import Hide
from cvbatch.edits.orientation import Pixels, stored_view, upright_view
from cvbatch.edits.palettes import nearest_entries, opaque_entries, palette_colours
from cvbatch.edits.regions import Region
from cvbatch.errors import ImageError
from cvbatch.images.decode import decode
from cvbatch.images.exif import is_transposed, load_exif_tags, read_orientation
from cvbatch.images.formats import ImageFormat, identify_format
from cvbatch.images.pillow_guards import quiet_pillow
from cvbatch.images.preprocess import Size
from cvbatch.images.reading import check_pixel_count

KEPT_FORMATS: Final = ("jpeg", "png", "tiff", "bmp", "webp", "gif")
"""Formats that are written as they were; pictures of others become JPEG."""
_INK: Final = (0, 0, 0, 255)
"""Black in CMYK."""
_COLOUR_CHANNELS: Final = {
    "1": 1,
    "L": 1,
    "LA": 1,
    "I;16": 1,
    "I;16B": 1,
    "I": 1,
    "F": 1,
    "RGB": 3,
    "RGBA": 3,
    "CMYK": 4,
}
"""Number of channels that are no alpha, by Pillow's mode; pictures of other modes are refused."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The first and only picture of a file."""

    format: str
    """Of the content; see `cvbatch.images.formats.FORMATS`."""
    image: Image.Image
    """Loaded, with the pixels as stored; edits change it."""
    orientation: int
    """1 to 8, as in Exif."""
    is_lossless: bool
    """Whether the file holds these very pixels."""

    @property
    def size(self) -> Size:
        """(width, height) upright."""
        width, height = self.image.size
        return (height, width) if is_transposed(self.orientation) else (width, height)

    def hide(self, region: Region, hide: Hide) -> None:
        """Hide a region, in place; where it was transparent it becomes opaque."""
        frame = self._stored_frame(region)
        area = upright_view(np.asarray(self.image.crop(frame)), self.orientation)
        values = _hidden(area, self.image, hide)
        if region.inside is not None:
            inside = region.inside if area.ndim == 2 else region.inside[..., None]
            values = np.where(inside, values, area)
        self.image.paste(image_of_pixels(stored_view(values, self.orientation), self.image.mode), frame)

    def put_rgb(self, region: Region, rgb: npt.NDArray[np.uint8]) -> None:
        """Replace a region by other colours, in place.

        Args:
            region: Where.
            rgb: (rows, columns, 3)
        """
        self.hide(
            region,
            lambda pixels, black: rgb if pixels.shape[2] == 3 else rgb.mean(axis=2, keepdims=True).astype(np.uint8),
        )

    def read_rgb(self, region: Region) -> npt.NDArray[np.uint8]:
        """Colours of the rectangle of a region, (rows, columns, 3); only of pictures with 8 bits per channel."""
        pixels = upright_view(np.array(self.image.crop(self._stored_frame(region))), self.orientation)
        if self.image.mode == "P":
            return palette_colours(self.image)[pixels]
        return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels[..., :3]

    def _stored_frame(self, region: Region) -> tuple[int, int, int, int]:
        """Left, upper, right and lower edge of a region in the pixels as stored: `upright_view` backwards."""
        width, height = self.size
        rows, columns = (region.rows.start, region.rows.stop), (region.columns.start, region.columns.stop)
        if self.orientation in (3, 4, 7, 8):
            rows = (height - rows[1], height - rows[0])
        if self.orientation in (2, 3, 6, 7):
            columns = (width - columns[1], width - columns[0])
        if is_transposed(self.orientation):
            rows, columns = columns, rows
        return columns[0], rows[0], columns[1], rows[1]


def image_of_pixels(pixels: Pixels, mode: str) -> Image.Image:
    """The picture of some pixels; one of mode P has no palette yet."""
    if mode == "1":
        return Image.fromarray(np.ascontiguousarray(pixels))
    return Image.frombytes(mode, pixels.shape[1::-1], np.ascontiguousarray(pixels).tobytes())


def open_picture(data: bytes, size: Size, max_pixels: int) -> Picture:
    """Open a file for an edit of some of its pixels.

    Args:
        data: The whole file.
        size: (width, height) of the oriented original that the predictions are about.
        max_pixels: Pictures with more are refused.

    Raises:
        ImageError: `MultipleFrames`, `DeepColours`, `UnsupportedMode`, `OtherSize`, or the picture cannot be decoded.
    """
    image_format = identify_format(data)
    if image_format.name in KEPT_FORMATS:
        with quiet_pillow:
            picture = _open_as_stored(image_format, data, max_pixels)
    else:
        image = decode(data, max_pixels=max_pixels).image
        picture = Picture(image_format.name, image, 1, is_lossless=False)
    if picture.size != tuple(size):
        width, height = picture.size
        raise ImageError(
            "OtherSize", f"the run has seen {size[0]} × {size[1]} pixels, the file holds {width} × {height}"
        )
    return picture


def _open_as_stored(image_format: ImageFormat, data: bytes, max_pixels: int) -> Picture:
    image = image_format.open(io.BytesIO(data))
    check_pixel_count(image.width, image.height, max_pixels)
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(
            "MultipleFrames",
            f"{frames} frames or pages, of which the model has seen only the first: others may show the same objects",
        )
    if _loses_depth(image_format.name, image, data):
        raise ImageError("DeepColours", "more than 8 bits per channel in colour cannot be written without a loss")
    image.load()
    if image.mode != "P" and image.mode not in _COLOUR_CHANNELS:
        raise ImageError("UnsupportedMode", f"pictures of mode {image.mode} cannot be edited")
    orientation = read_orientation(load_exif_tags(image), image.info.get("xmp"))
    is_lossless = image_format.name != "jpeg" and (image_format.name != "webp" or has_lossless_chunk(data))
    return Picture(image_format.name, image, orientation, is_lossless)


def has_lossless_chunk(data: bytes) -> bool:
    """Whether a WebP is lossless (RFC 9649, 2.6)."""
    offset = 12
    while offset + 8 <= len(data):
        name, length = data[offset : offset + 4], int.from_bytes(data[offset + 4 : offset + 8], "little")
        if name in (b"VP8L", b"VP8 "):
            return name == b"VP8L"
        offset += 8 + length + length % 2
    return False


def _loses_depth(name: str, image: Image.Image, data: bytes) -> bool:
    """Whether Pillow would read fewer bits than the file has."""
    if name == "png":  # bit depth and colour type in IHDR
        return data[24] == 16 and data[25] in (2, 4, 6)
    if name == "tiff":
        bits: Any = getattr(image, "tag_v2", {}).get(258, (1,))
        return len(bits) > 1 and max(bits) > 8
    return False


def _hidden(area: Pixels, image: Image.Image, hide: Hide) -> Pixels:
    """What is put into an area instead of its pixels; same shape and type."""
    if image.mode == "P":
        colours = palette_colours(image)
        hidden = hide(colours[area], np.zeros(3, np.uint8))
        return nearest_entries(np.asarray(hidden), colours, opaque_entries(image)).astype(area.dtype)
    if image.mode == "1":
        grey = hide(np.where(area, 255, 0).astype(np.uint8)[..., None], np.zeros(1, np.uint8))
        return np.asarray(grey[..., 0] >= 128)
    channels = _COLOUR_CHANNELS[image.mode]
    black = np.array(_INK if image.mode == "CMYK" else (0,) * channels, area.dtype)
    if area.ndim == 2:
        return hide(area[..., None], black)[..., 0]
    if channels == area.shape[2]:
        return hide(area, black)
    values = np.full_like(area, 255)
    values[..., :channels] = hide(area[..., :channels], black)
    return values
