"""Number and bit depth of the channels of a JPEG 2000 picture (ISO/IEC 15444-1, A.5.1)."""

from __future__ import annotations

from typing import Final

import imagecodecs
import numpy as np
from PIL import Image

from cvbatch.errors import ImageError

_CODESTREAM_END: Final = b"\xff\xd9"
_CODESTREAM_START: Final = b"\xff\x4f\xff\x51"
_SAVE_HINT: Final = "save it as grey or RGB with 8 or 16 bits"


def read_component_depths(data: bytes) -> tuple[int, ...]:
    """Read the bits of each channel; empty if the header of the codestream is missing.

    Raises:
        ImageError: `UnsupportedImage`, for more than four channels or a palette of more than 8 bits.
    """
    start = data.find(_CODESTREAM_START)
    count = int.from_bytes(data[start + 40 : start + 42], "big") if start >= 0 else 0
    if count > 4:
        raise ImageError("UnsupportedImage", f"cannot read a JPEG 2000 image of {count} bands; {_SAVE_HINT}")
    depths = tuple(1 + (byte & 0x7F) for byte in data[start + 42 : start + 42 + 3 * count : 3])
    if b"pclr" in data[: max(start, 0)] and max(_read_palette_depths(data[:start]), default=8) > 8:
        raise ImageError(
            "UnsupportedImage", f"cannot read a JPEG 2000 image with a palette of more than 8 bits; {_SAVE_HINT}"
        )
    return depths


def _read_palette_depths(header: bytes) -> tuple[int, ...]:
    offset = header.find(b"pclr")
    return tuple(1 + (byte & 0x7F) for byte in header[offset + 7 : offset + 7 + header[offset + 6]])


def has_deep_components(depths: tuple[int, ...]) -> bool:
    """Whether there are several channels of more than 8 bits; Pillow turns their brightest values black."""
    return len(depths) > 1 and max(depths) > 8


def decode_deep_components(data: bytes, depths: tuple[int, ...], mode: str) -> Image.Image:
    """Decode a picture of several channels of up to 16 bits.

    Args:
        data: The file.
        depths: Bits of each channel, from `read_component_depths`.
        mode: Mode that Pillow gives the picture.

    Returns:
        Image of that mode, 8 bits per channel; the largest value becomes 255.

    Raises:
        ImageError: `CorruptImage`, `TruncatedImage` or `UnsupportedImage`.
    """
    try:
        samples = imagecodecs.jpeg2k_decode(data)
    except imagecodecs.Jpeg2kError as error:
        is_complete = data.endswith(_CODESTREAM_END)
        kind, problem = ("CorruptImage", "cannot be decoded") if is_complete else ("TruncatedImage", "stops early")
        raise ImageError(kind, f"jpeg2000 {problem}: some of its pixels are missing") from error
    if max(depths) > 16 or samples.shape[2:] != (Image.getmodebands(mode),):
        raise ImageError("UnsupportedImage", f"cannot read a JPEG 2000 image of {max(depths)} bits; {_SAVE_HINT}")
    bands = []
    for channel, bits in enumerate(depths):
        band = samples[..., channel].astype(np.int32)
        band += (1 << (bits - 1)) if samples.dtype.kind == "i" else 0
        bands.append(Image.fromarray(((band * 255 + (1 << (bits - 1)) - 1) // ((1 << bits) - 1)).astype(np.uint8)))
    return Image.merge(mode, bands)


def scale_to_full_range(image: Image.Image, depths: tuple[int, ...]) -> Image.Image:
    """Scale channels of less than 8 bits to 0 to 255: Pillow only shifts them, so that white of 1 bit is 128.

    Args:
        image: Image as loaded by Pillow.
        depths: Bits of each channel, from `read_component_depths`.
    """
    if all(bits >= 8 for bits in depths) or image.mode.startswith("I"):
        return image
    if image.mode == "P":
        # The values are indices into the palette.
        return _map_palette_indices(image, [(value >> (8 - depths[0])) for value in range(256)])
    bands = [
        band
        if bits >= 8
        else band.point([round((value >> (8 - bits)) * 255 / ((1 << bits) - 1)) for value in range(256)])
        for band, bits in zip(image.split(), depths, strict=False)
    ]
    return Image.merge(image.mode, bands) if len(bands) == len(image.getbands()) else image


def _map_palette_indices(image: Image.Image, indices: list[int]) -> Image.Image:
    palette = image.palette
    mapped = image.point(indices)
    mapped.palette = palette
    return mapped
