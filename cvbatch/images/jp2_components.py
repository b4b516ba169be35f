"""How many channels a JPEG 2000 picture has and how deep they are (ISO/IEC 15444-1, A.5.1)."""

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
    """Bits of each channel; none if the header of the codestream is not there.

    Raises:
        ImageError: `UnsupportedImage`, where they are more than colours and transparency.
    """
    at = data.find(_CODESTREAM_START)
    count = int.from_bytes(data[at + 40 : at + 42], "big") if at >= 0 else 0
    if count > 4:
        raise ImageError("UnsupportedImage", f"cannot read a JPEG 2000 image of {count} bands; {_SAVE_HINT}")
    depths = tuple(1 + (byte & 0x7F) for byte in data[at + 42 : at + 42 + 3 * count : 3])
    if b"pclr" in data[: max(at, 0)] and max(_read_palette_depths(data[:at]), default=8) > 8:
        raise ImageError(
            "UnsupportedImage", f"cannot read a JPEG 2000 image with a palette of more than 8 bits; {_SAVE_HINT}"
        )
    return depths


def _read_palette_depths(header: bytes) -> tuple[int, ...]:
    at = header.find(b"pclr")
    return tuple(1 + (byte & 0x7F) for byte in header[at + 7 : at + 7 + header[at + 6]])


def has_deep_components(depths: tuple[int, ...]) -> bool:
    """Whether there are several channels of more than 8 bits, in which Pillow makes the brightest values black."""
    return len(depths) > 1 and max(depths) > 8


def decode_deep_components(data: bytes, depths: tuple[int, ...], mode: str) -> Image.Image:
    """Decode a picture of several channels of up to 16 bits.

    Args:
        data: The file.
        depths: Bits of each channel, as it tells.
        mode: What Pillow would make of it.

    Returns:
        Of that mode; the largest value becomes 255.

    Raises:
        ImageError: `CorruptImage`, `TruncatedImage` or `UnsupportedImage`.
    """
    try:
        samples = imagecodecs.jpeg2k_decode(data)
    except imagecodecs.Jpeg2kError as error:
        whole = data.endswith(_CODESTREAM_END)
        kind, how = ("CorruptImage", "cannot be decoded") if whole else ("TruncatedImage", "stops early")
        raise ImageError(kind, f"jpeg2000 {how}: its pixels are not all there") from error
    if max(depths) > 16 or samples.shape[2:] != (Image.getmodebands(mode),):
        raise ImageError("UnsupportedImage", f"cannot read a JPEG 2000 image of {max(depths)} bits; {_SAVE_HINT}")
    bands = []
    for place, bits in enumerate(depths):
        band = samples[..., place].astype(np.int32)
        band += (1 << (bits - 1)) if samples.dtype.kind == "i" else 0
        bands.append(Image.fromarray(((band * 255 + (1 << (bits - 1)) - 1) // ((1 << bits) - 1)).astype(np.uint8)))
    return Image.merge(mode, bands)


def scale_to_full_range(image: Image.Image, depths: tuple[int, ...]) -> Image.Image:
    """Bring channels of less than 8 bits to 0 to 255: Pillow shifts them only, so that white of 1 bit is 128.

    Args:
        image: As Pillow loads it.
        depths: Bits of each channel, as the file tells.
    """
    if all(bits >= 8 for bits in depths) or image.mode.startswith("I"):
        return image
    if image.mode == "P":
        # These are places in a palette.
        return _map_palette_indices(image, [(value >> (8 - depths[0])) for value in range(256)])
    bands = [
        band
        if bits >= 8
        else band.point([round((value >> (8 - bits)) * 255 / ((1 << bits) - 1)) for value in range(256)])
        for band, bits in zip(image.split(), depths, strict=False)
    ]
    return Image.merge(image.mode, bands) if len(bands) == len(image.getbands()) else image


def _map_palette_indices(image: Image.Image, places: list[int]) -> Image.Image:
    palette = image.palette
    mapped = image.point(places)
    mapped.palette = palette
    return mapped
