"""The numbers of a picture, put together from its strips or tiles, 8 bits each."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError
from cvbatch.images.tiff.codecs import BYTE_CODECS, decompress_block, reverse_bit_order
from cvbatch.images.tiff.directory import TiffDirectory, TiffTag
from cvbatch.images.tiff.image_codecs import FAX_COMPRESSIONS, decode_image_block
from cvbatch.images.tiff.jpeg import decode_jpeg_block
from cvbatch.images.tiff.layout import BlockLayout, PixelBlock, iter_pixel_blocks
from cvbatch.images.tiff.luma_chroma import LumaChroma
from cvbatch.images.tiff.meaning import JPEG_COMPRESSIONS, Photometric, PixelFormat

SampleArray: TypeAlias = npt.NDArray[Any]
_MAX_BYTES_PER_PIXEL: Final = 8
"""Bytes of a pixel that a part of the largest size may have."""


def read_samples(
    directory: TiffDirectory, pixel_format: PixelFormat, layout: BlockLayout, max_pixels: int
) -> SampleArray:
    """Unpack a picture.

    Args:
        directory: Of the picture.
        pixel_format: What its numbers are.
        layout: How it is cut up.
        max_pixels: As `cvbatch.images.decode.decode` has it.

    Returns:
        (height, width, samples that are kept): uint8, 0 to 255 for black to white (for luma and chroma: RGB), or
        the places in a palette as they are.

    Raises:
        ImageError: `TruncatedImage`, `CorruptImage` or `UnsupportedImage`.
    """
    reader = _BlockReader(directory, pixel_format, layout)
    together = layout.plane_count == 1
    numbers = pixel_format.samples_per_pixel if together else 1
    if (
        layout.block_rows * layout.block_columns * numbers * pixel_format.bits_per_sample // 8
        > _MAX_BYTES_PER_PIXEL * max(max_pixels, 1 << 20)
    ):
        raise ImageError(
            "UnsupportedImage", f"cannot read a TIFF of {pixel_format.samples_per_pixel} bands in parts that large"
        )
    kept = pixel_format.image_samples
    levels = [_build_level_table(pixel_format, place) for place in kept]
    index = (
        np.uint16 if pixel_format.photometric == Photometric.PALETTE and pixel_format.bits_per_sample > 8 else np.uint8
    )
    whole = np.empty((layout.height, layout.width, len(kept)), index)
    as_stored = together and kept == tuple(range(numbers)) and all(level is None for level in levels)
    for part in iter_pixel_blocks(directory, layout, reader.count_stored_bytes):
        if not together and part.plane not in kept:
            continue
        block = reader.read_block(part)
        if as_stored and layout.block_count == 1 and block.shape == whole.shape:
            return block
        target = whole[part.top : part.top + layout.block_rows, part.left : part.left + layout.block_columns]
        block = block[: target.shape[0], : target.shape[1]]
        if as_stored:
            target[...] = block
            continue
        places = enumerate(kept) if together else [(kept.index(part.plane), 0)]
        for place, source in places:
            target[..., place] = _apply_level_table(block[..., source], levels[place])
    return whole


class _BlockReader:
    """Strips or tiles of one picture to numbers."""

    def __init__(self, directory: TiffDirectory, pixel_format: PixelFormat, layout: BlockLayout) -> None:
        self._directory = directory
        self._pixel_format = pixel_format
        self._columns = layout.block_columns
        self._samples = pixel_format.samples_per_pixel if layout.plane_count == 1 else 1
        self._jpeg_tables = directory.get_bytes(TiffTag.JPEG_TABLES)
        is_jpeg = pixel_format.compression in JPEG_COMPRESSIONS
        mixed = pixel_format.photometric == Photometric.YCBCR
        if mixed and (pixel_format.alpha is not None or layout.plane_count > 1 or pixel_format.has_predictor):
            raise ImageError("UnsupportedImage", "cannot read a TIFF of luma and chroma in planes or with extra bands")
        self._luma_chroma = LumaChroma.from_directory(directory) if mixed and not is_jpeg else None
        if self._luma_chroma is not None and pixel_format.compression not in BYTE_CODECS:
            raise ImageError("UnsupportedImage", "cannot read a TIFF of luma and chroma with this compression")

    def count_stored_bytes(self, rows: int) -> int:
        """Bytes of so many rows that are not compressed."""
        if self._luma_chroma is not None:
            return self._luma_chroma.count_stored_bytes(rows, self._columns)
        return rows * -(-self._columns * self._samples * self._pixel_format.bits_per_sample // 8)

    def read_block(self, block: PixelBlock) -> SampleArray:
        """The numbers of a part, (rows, columns, samples) or more of both."""
        meaning = self._pixel_format
        shape = block.rows, block.columns, self._samples
        packed = block.packed
        if meaning.compression in JPEG_COMPRESSIONS:
            mixed = meaning.photometric == Photometric.YCBCR
            return decode_jpeg_block(packed, self._jpeg_tables, shape, luma_chroma=mixed)
        if meaning.has_reversed_bits and (
            meaning.compression in BYTE_CODECS or meaning.compression in FAX_COMPRESSIONS
        ):
            packed = reverse_bit_order(packed)
        if meaning.compression not in BYTE_CODECS:
            numbers: SampleArray = np.empty(shape, np.uint8 if meaning.bits_per_sample <= 8 else np.uint16)
            decode_image_block(meaning.compression, packed, self._directory, numbers)
            return self._check_value_range(numbers, numbers.itemsize * 8)
        plain = decompress_block(meaning.compression, packed, self.count_stored_bytes(block.rows))
        if self._luma_chroma is not None:
            return self._luma_chroma.decode_to_rgb(plain, block.rows, block.columns)
        numbers = _unpack_samples(plain, shape, meaning, self._directory.byte_order)
        if meaning.has_predictor:
            np.add.accumulate(numbers, axis=1, dtype=numbers.dtype, out=numbers)
        return numbers

    def _check_value_range(self, numbers: SampleArray, stored_bits: int) -> SampleArray:
        """Numbers of `stored_bits` bits, none larger than those that the directory tells of."""
        bits = self._pixel_format.bits_per_sample
        if bits > stored_bits or (bits < stored_bits and numbers.max() >> bits):
            raise ImageError("CorruptImage", f"tiff cannot be decoded: its parts do not hold {bits}-bit numbers")
        return numbers


def _unpack_samples(
    plain: bytes, shape: tuple[int, int, int], pixel_format: PixelFormat, byte_order: str
) -> SampleArray:
    rows, columns, samples = shape
    bits = pixel_format.bits_per_sample
    if bits in (8, 16):
        dtype = np.dtype(f"{byte_order}u{bits // 8}")
        stored = np.frombuffer(plain, dtype, rows * columns * samples).reshape(shape)
        return stored.astype(dtype.newbyteorder("="), copy=pixel_format.has_predictor)
    import imagecodecs

    # Numbers are packed without gaps, the highest bit first in either byte order; each row begins a byte.
    unpacked: SampleArray = imagecodecs.packints_decode(
        plain[: rows * -(-columns * samples * bits // 8)],
        np.uint8 if bits < 8 else np.uint16,
        bits,
        runlen=columns * samples,
    )
    return unpacked.reshape(shape)


def _build_level_table(pixel_format: PixelFormat, sample_index: int) -> SampleArray | None:
    """What becomes of each value of a sample, as a table; None if it stays what it is."""
    largest = (1 << pixel_format.bits_per_sample) - 1
    is_alpha = pixel_format.alpha is not None and sample_index == pixel_format.alpha_index
    if not is_alpha and pixel_format.photometric == Photometric.PALETTE:
        return None
    if not is_alpha and pixel_format.photometric in (Photometric.CIELAB, Photometric.ICCLAB):
        return _build_lab_level_table(pixel_format, sample_index)
    values = np.arange(largest + 1, dtype=np.uint32)
    scaled = ((values * 255 * 2 + largest) // (2 * largest)).astype(np.uint8)
    if not is_alpha and pixel_format.photometric == Photometric.WHITE_IS_ZERO:
        scaled = 255 - scaled
    elif pixel_format.bits_per_sample == 8:
        return None
    return scaled


def _build_lab_level_table(pixel_format: PixelFormat, sample_index: int) -> SampleArray | None:
    """Lightness 0 to 255, and both colours with their zero at 128."""
    icc = pixel_format.photometric == Photometric.ICCLAB
    if pixel_format.bits_per_sample == 8:
        return None if sample_index == 0 or icc else np.arange(256, dtype=np.uint8) ^ np.uint8(0x80)
    values = np.arange(65536)
    if sample_index == 0:
        # ICC's white is 0xFF00
        white = 0xFF00 if icc else 0xFFFF
        levels = (values * 255 + white // 2) // white
    else:
        levels = ((values if icc else values ^ 0x8000) + 128) >> 8
    return np.minimum(levels, 255).astype(np.uint8)


def _apply_level_table(numbers: SampleArray, levels: SampleArray | None) -> SampleArray:
    return numbers if levels is None else levels[numbers]
