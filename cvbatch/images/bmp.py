"""BMPs whose colours lie in any bits of 16 or 32; the usual ones go to Pillow.

Headers: Windows' `wingdi.h`, from BITMAPCOREHEADER to BITMAPV5HEADER, and OS/2's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.colours import to_rgb
from cvbatch.images.formats import MALFORMED, Format
from cvbatch.images.pillow_reader import read_by_pillow
from cvbatch.images.reading import Picture, ReadOptions, check_pixels

_FILE_HEADER: Final = 14
_CORE: Final = 12
_OS2_SHORT: Final = 16
_OS2: Final = 64
_WITH_ALPHA: Final = 56
_PLAIN, _RLE8, _RLE4, _MASKS, _ALPHA_MASKS = 0, 1, 2, 3, 6
_END_OF_RUNS: Final = b"\0\1"
_SAVE: Final = "save it with 24 bits"
_PACKINGS: Final = {
    3: "fax compression (OS/2)",
    4: "a JPEG inside",
    5: "a PNG inside",
    11: "CMYK inks",
    12: "CMYK inks",
    13: "CMYK inks",
}


@dataclass(frozen=True, slots=True)
class _Header:
    size: int
    width: int
    height: int
    """Negative where the first row is the top one."""
    bits: int
    packing: int


def read_bmp(kind: Format, data: bytes, options: ReadOptions) -> Picture:
    """Read a BMP; a `cvbatch.images.reading.Reader`.

    Raises:
        ImageError: `UnsupportedImage`, `TooManyPixels` or `TruncatedImage`.
    """
    header = _header(data)
    if header is None:
        return read_by_pillow(kind, data, options)
    _check(header)
    if header.packing in (_RLE8, _RLE4):
        return _run_lengths(kind, data, options)
    if header.packing == _PLAIN:
        return read_by_pillow(kind, data, options)
    height = abs(header.height)
    check_pixels(header.width, height, options.max_pixels)
    return Picture(to_rgb(_by_masks(header, data)), (header.width, height))


def _run_lengths(kind: Format, data: bytes, options: ReadOptions) -> Picture:
    try:
        return read_by_pillow(kind, data, options)
    except MALFORMED as error:
        if data.endswith(_END_OF_RUNS):
            reason = "a BMP whose run lengths leave pixels out"
            raise ImageError("UnsupportedImage", f"cannot read {reason}; {_SAVE}") from error
        raise ImageError("TruncatedImage", "bmp stops early: some of its pixels are not there") from error


def _header(data: bytes) -> _Header | None:
    size = int.from_bytes(data[14:18], "little")
    if size == _OS2_SHORT:
        raise ImageError("UnsupportedImage", f"cannot read a BMP with a short header of OS/2; {_SAVE}")
    if size == _CORE or len(data) < _FILE_HEADER + 40:
        return None
    width, height, _, bits, packing = struct.unpack_from("<iiHHI", data, 18)
    return _Header(size, width, height, bits, packing)


def _check(header: _Header) -> None:
    packing, bits = header.packing, header.bits
    if header.size == _OS2 and packing == 4:
        raise ImageError("UnsupportedImage", f"cannot read a BMP with 24-bit run lengths (OS/2); {_SAVE}")
    if packing in _PACKINGS and (packing != _MASKS or header.size == _OS2):
        raise ImageError("UnsupportedImage", f"cannot read a BMP with {_PACKINGS[packing]}; {_SAVE}")
    if packing not in (_PLAIN, _RLE8, _RLE4, _MASKS, _ALPHA_MASKS):
        raise ImageError("UnsupportedImage", f"cannot read a BMP with packing number {packing}; {_SAVE}")
    if bits not in ((16, 32) if packing in (_MASKS, _ALPHA_MASKS) else (1, 4, 8, 16, 24, 32)):
        raise ImageError("UnsupportedImage", f"cannot read a BMP of {bits} bits; {_SAVE}")


def _by_masks(header: _Header, data: bytes) -> Image.Image:
    alpha = header.packing == _ALPHA_MASKS or header.size >= _WITH_ALPHA
    masks = struct.unpack_from("<IIII" if alpha else "<III", data.ljust(_FILE_HEADER + _WITH_ALPHA), 54)
    if header.width < 1 or header.height == 0 or not all(_is_run(mask) for mask in masks) or not all(masks[:3]):
        raise ImageError("CorruptImage", "bmp cannot be decoded: it does not say in which bits its colours are")
    pixels = _pixels(header, data)
    bands = [Image.fromarray(_channel(pixels, mask)) for mask in masks if mask]
    return Image.merge("RGBA" if len(bands) == 4 else "RGB", bands)


def _is_run(mask: int) -> bool:
    """Whether the bits of a mask stand side by side."""
    low = mask & -mask
    return (mask + low) & mask == 0


def _pixels(header: _Header, data: bytes) -> npt.NDArray[np.unsignedinteger]:
    size = header.bits // 8
    stride = -(-header.width * size // 4) * 4
    height = abs(header.height)
    begin = int.from_bytes(data[10:14], "little")
    if begin + stride * height > len(data):
        raise ImageError("TruncatedImage", "bmp stops early: some of its pixels are not there")
    lines = np.frombuffer(data, np.uint8, stride * height, begin).reshape(height, stride)[:, : header.width * size]
    pixels = np.ascontiguousarray(lines).view(f"<u{size}")
    return pixels if header.height < 0 else pixels[::-1]


def _channel(pixels: npt.NDArray[np.unsignedinteger], mask: int) -> npt.NDArray[np.uint8]:
    shift = (mask & -mask).bit_length() - 1
    largest = mask >> shift
    value = ((pixels & pixels.dtype.type(mask)) >> shift).astype(np.uint64)
    return ((value * 255 * 2 + largest) // (2 * largest)).astype(np.uint8)
