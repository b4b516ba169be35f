"""Read BMPs whose colours are in any bits of 16 or 32; Pillow reads the usual ones.

Source of the headers: Windows' `wingdi.h`, from BITMAPCOREHEADER to BITMAPV5HEADER, and OS/2's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.colours import convert_to_rgb
from cvbatch.images.formats import MALFORMED_ERRORS, ImageFormat
from cvbatch.images.pillow_reader import read_by_pillow
from cvbatch.images.reading import ReadOptions, ReadResult, check_pixel_count

_FILE_HEADER_BYTES: Final = 14
_CORE_HEADER_BYTES: Final = 12
_OS2_SHORT_HEADER_BYTES: Final = 16
_OS2_HEADER_BYTES: Final = 64
_ALPHA_HEADER_BYTES: Final = 56
_BI_RGB, _BI_RLE8, _BI_RLE4, _BI_BITFIELDS, _BI_ALPHABITFIELDS = 0, 1, 2, 3, 6
_RLE_END_MARKER: Final = b"\0\1"
_SAVE_HINT: Final = "save it with 24 bits"
_COMPRESSION_NAMES: Final = {
    3: "fax compression (OS/2)",
    4: "a JPEG inside",
    5: "a PNG inside",
    11: "CMYK inks",
    12: "CMYK inks",
    13: "CMYK inks",
}


@dataclass(frozen=True, slots=True)
class _BmpHeader:
    header_bytes: int
    width: int
    height: int
    """Negative if the rows are stored from top to bottom."""
    bits_per_pixel: int
    compression: int


def read_bmp(image_format: ImageFormat, data: bytes, options: ReadOptions) -> ReadResult:
    """Read a BMP; a `cvbatch.images.reading.FormatReader`.

    Raises:
        ImageError: `UnsupportedImage`, `TooManyPixels` or `TruncatedImage`.
    """
    header = _parse_bmp_header(data)
    if header is None:
        return read_by_pillow(image_format, data, options)
    _check_bmp_supported(header)
    if header.compression in (_BI_RLE8, _BI_RLE4):
        return _read_run_length_bmp(image_format, data, options)
    if header.compression == _BI_RGB:
        return read_by_pillow(image_format, data, options)
    height = abs(header.height)
    check_pixel_count(header.width, height, options.max_pixels)
    return ReadResult(convert_to_rgb(_decode_bit_fields(header, data)), (header.width, height))


def _read_run_length_bmp(image_format: ImageFormat, data: bytes, options: ReadOptions) -> ReadResult:
    try:
        return read_by_pillow(image_format, data, options)
    except MALFORMED_ERRORS as error:
        if data.endswith(_RLE_END_MARKER):
            reason = "a BMP whose run lengths leave pixels out"
            raise ImageError("UnsupportedImage", f"cannot read {reason}; {_SAVE_HINT}") from error
        raise ImageError("TruncatedImage", "bmp stops early: some of its pixels are missing") from error


def _parse_bmp_header(data: bytes) -> _BmpHeader | None:
    size = int.from_bytes(data[14:18], "little")
    if size == _OS2_SHORT_HEADER_BYTES:
        raise ImageError("UnsupportedImage", f"cannot read a BMP with a short OS/2 header; {_SAVE_HINT}")
    if size == _CORE_HEADER_BYTES or len(data) < _FILE_HEADER_BYTES + 40:
        return None
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    return _BmpHeader(size, width, height, bits, compression)


def _check_bmp_supported(header: _BmpHeader) -> None:
    compression, bits = header.compression, header.bits_per_pixel
    if header.header_bytes == _OS2_HEADER_BYTES and compression == 4:
        raise ImageError("UnsupportedImage", f"cannot read a BMP with 24-bit run lengths (OS/2); {_SAVE_HINT}")
    is_os2 = header.header_bytes == _OS2_HEADER_BYTES
    if compression in _COMPRESSION_NAMES and (compression != _BI_BITFIELDS or is_os2):
        raise ImageError("UnsupportedImage", f"cannot read a BMP with {_COMPRESSION_NAMES[compression]}; {_SAVE_HINT}")
    if compression not in (_BI_RGB, _BI_RLE8, _BI_RLE4, _BI_BITFIELDS, _BI_ALPHABITFIELDS):
        raise ImageError("UnsupportedImage", f"cannot read a BMP with compression number {compression}; {_SAVE_HINT}")
    if bits not in ((16, 32) if compression in (_BI_BITFIELDS, _BI_ALPHABITFIELDS) else (1, 4, 8, 16, 24, 32)):
        raise ImageError("UnsupportedImage", f"cannot read a BMP of {bits} bits; {_SAVE_HINT}")


def _decode_bit_fields(header: _BmpHeader, data: bytes) -> Image.Image:
    has_alpha = header.compression == _BI_ALPHABITFIELDS or header.header_bytes >= _ALPHA_HEADER_BYTES
    padded = data.ljust(_FILE_HEADER_BYTES + _ALPHA_HEADER_BYTES)
    masks = struct.unpack_from("<IIII" if has_alpha else "<III", padded, 54)
    if (
        header.width < 1
        or header.height == 0
        or not all(_is_contiguous_mask(mask) for mask in masks)
        or not all(masks[:3])
    ):
        raise ImageError("CorruptImage", "bmp cannot be decoded: its colour masks are not valid")
    pixels = _read_packed_pixels(header, data)
    bands = [Image.fromarray(_extract_masked_channel(pixels, mask)) for mask in masks if mask]
    return Image.merge("RGBA" if len(bands) == 4 else "RGB", bands)


def _is_contiguous_mask(mask: int) -> bool:
    """Whether the bits of a mask are adjacent."""
    lowest_bit = mask & -mask
    return (mask + lowest_bit) & mask == 0


def _read_packed_pixels(header: _BmpHeader, data: bytes) -> npt.NDArray[np.unsignedinteger]:
    pixel_bytes = header.bits_per_pixel // 8
    stride = -(-header.width * pixel_bytes // 4) * 4
    height = abs(header.height)
    start = int.from_bytes(data[10:14], "little")
    if start + stride * height > len(data):
        raise ImageError("TruncatedImage", "bmp stops early: some of its pixels are missing")
    rows = np.frombuffer(data, np.uint8, stride * height, start).reshape(height, stride)[
        :, : header.width * pixel_bytes
    ]
    pixels = np.ascontiguousarray(rows).view(f"<u{pixel_bytes}")
    return pixels if header.height < 0 else pixels[::-1]


def _extract_masked_channel(packed_pixels: npt.NDArray[np.unsignedinteger], mask: int) -> npt.NDArray[np.uint8]:
    shift = (mask & -mask).bit_length() - 1
    largest = mask >> shift
    values = ((packed_pixels & packed_pixels.dtype.type(mask)) >> shift).astype(np.uint64)
    return ((values * 255 * 2 + largest) // (2 * largest)).astype(np.uint8)
