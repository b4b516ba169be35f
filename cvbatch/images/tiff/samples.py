"""Read the samples of a picture from its strips or tiles, and scale them to 8 bits."""

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
from cvbatch.images.tiff.pixel_format import JPEG_COMPRESSIONS, Photometric, PixelFormat

SampleArray: TypeAlias = npt.NDArray[Any]
_MAX_BYTES_PER_PIXEL: Final = 8
"""Most bytes per pixel of a strip or tile of the largest size."""


def read_samples(
    directory: TiffDirectory, pixel_format: PixelFormat, layout: BlockLayout, max_pixels: int
) -> SampleArray:
    """Unpack the samples of a picture.

    Args:
        directory: Directory of the picture.
        pixel_format: Meaning of the samples.
        layout: Strips or tiles of the picture.
        max_pixels: As in `cvbatch.images.decode.decode`.

    Returns:
        (height, width, samples of `pixel_format.image_samples`): uint8, 0 to 255 for black to white (RGB for luma and
        chroma), or the palette indices as stored, uint8 or uint16.

    Raises:
        ImageError: `TruncatedImage`, `CorruptImage` or `UnsupportedImage`.
    """
    reader = BlockReader(directory, pixel_format, layout, max_pixels)
    levels = SampleLevels(pixel_format, layout)
    result = np.empty((layout.height, layout.width, levels.channel_count), levels.dtype)
    for block in iter_pixel_blocks(directory, layout, reader.count_stored_bytes):
        if not levels.needs_plane(block.plane):
            continue
        numbers = reader.read_block(block)
        if levels.are_as_stored and layout.block_count == 1 and numbers.shape == result.shape:
            return numbers
        target = result[block.top : block.top + layout.block_rows, block.left : block.left + layout.block_columns]
        levels.copy_levels(numbers, block.plane, target)
    return result


class SampleLevels:
    """Which samples of a picture are needed, and how stored values become levels; see `read_samples`.

    Args:
        pixel_format: Meaning of the samples.
        layout: Strips or tiles of the picture.
    """

    def __init__(self, pixel_format: PixelFormat, layout: BlockLayout) -> None:
        self._is_interleaved = layout.plane_count == 1
        self._selected = pixel_format.image_samples
        self._tables = [_build_level_table(pixel_format, sample_index) for sample_index in self._selected]
        self.channel_count = len(self._selected)
        is_deep = pixel_format.photometric == Photometric.PALETTE and pixel_format.bits_per_sample > 8
        self.dtype: type[np.generic] = np.uint16 if is_deep else np.uint8
        self.are_as_stored = (
            self._is_interleaved
            and self._selected == tuple(range(pixel_format.samples_per_pixel))
            and all(table is None for table in self._tables)
        )

    def needs_plane(self, plane: int) -> bool:
        """Whether a block of this plane has a needed sample."""
        return self._is_interleaved or plane in self._selected

    def copy_levels(self, numbers: SampleArray, plane: int, target: SampleArray) -> None:
        """Copy the levels of a block.

        Args:
            numbers: (rows, columns, stored samples), with at least the rows and columns of `target`.
            plane: Of the block.
            target: (rows, columns, channels); only the channels of the block are changed.
        """
        numbers = numbers[: target.shape[0], : target.shape[1]]
        if self.are_as_stored:
            target[...] = numbers
            return
        channels = enumerate(self._selected) if self._is_interleaved else [(self._selected.index(plane), 0)]
        for channel, source in channels:
            target[..., channel] = _apply_level_table(numbers[..., source], self._tables[channel])


class BlockReader:
    """Decodes the strips or tiles of one picture to samples.

    Args:
        directory: Directory of the picture.
        pixel_format: Meaning of the samples.
        layout: Strips or tiles of the picture.
        max_pixels: As in `cvbatch.images.decode.decode`.

    Raises:
        ImageError: `UnsupportedImage`.
    """

    def __init__(
        self, directory: TiffDirectory, pixel_format: PixelFormat, layout: BlockLayout, max_pixels: int
    ) -> None:
        self._directory = directory
        self._pixel_format = pixel_format
        self._columns = layout.block_columns
        self._samples = pixel_format.samples_per_pixel if layout.plane_count == 1 else 1
        block_bytes = layout.block_rows * layout.block_columns * self._samples * pixel_format.bits_per_sample // 8
        if block_bytes > _MAX_BYTES_PER_PIXEL * max(max_pixels, 1 << 20):
            raise ImageError(
                "UnsupportedImage", f"cannot read a TIFF of {pixel_format.samples_per_pixel} bands in parts that large"
            )
        self._jpeg_tables = directory.get_bytes(TiffTag.JPEG_TABLES)
        is_jpeg = pixel_format.compression in JPEG_COMPRESSIONS
        is_ycbcr = pixel_format.photometric == Photometric.YCBCR
        if is_ycbcr and (pixel_format.alpha is not None or layout.plane_count > 1 or pixel_format.has_predictor):
            raise ImageError("UnsupportedImage", "cannot read a TIFF of luma and chroma in planes or with extra bands")
        self._luma_chroma = LumaChroma.from_directory(directory) if is_ycbcr and not is_jpeg else None
        if self._luma_chroma is not None and pixel_format.compression not in BYTE_CODECS:
            raise ImageError("UnsupportedImage", "cannot read a TIFF of luma and chroma with this compression")

    def count_stored_bytes(self, rows: int) -> int:
        """Return the uncompressed bytes of a number of rows of a block."""
        if self._luma_chroma is not None:
            return self._luma_chroma.count_stored_bytes(rows, self._columns)
        return rows * -(-self._columns * self._samples * self._pixel_format.bits_per_sample // 8)

    def read_block(self, block: PixelBlock) -> SampleArray:
        """Return the samples of a block, (rows, columns, samples), possibly with padding rows and columns."""
        pixel_format = self._pixel_format
        shape = block.rows, block.columns, self._samples
        packed = block.packed
        if pixel_format.compression in JPEG_COMPRESSIONS:
            is_ycbcr = pixel_format.photometric == Photometric.YCBCR
            return decode_jpeg_block(packed, self._jpeg_tables, shape, luma_chroma=is_ycbcr)
        if pixel_format.has_reversed_bits and (
            pixel_format.compression in BYTE_CODECS or pixel_format.compression in FAX_COMPRESSIONS
        ):
            packed = reverse_bit_order(packed)
        if pixel_format.compression not in BYTE_CODECS:
            numbers: SampleArray = np.empty(shape, np.uint8 if pixel_format.bits_per_sample <= 8 else np.uint16)
            decode_image_block(pixel_format.compression, packed, self._directory, numbers)
            return self._check_value_range(numbers, numbers.itemsize * 8)
        plain = decompress_block(pixel_format.compression, packed, self.count_stored_bytes(block.rows))
        if self._luma_chroma is not None:
            return self._luma_chroma.decode_to_rgb(plain, block.rows, block.columns)
        numbers = _unpack_samples(plain, shape, pixel_format, self._directory.byte_order)
        if pixel_format.has_predictor:
            np.add.accumulate(numbers, axis=1, dtype=numbers.dtype, out=numbers)
        return numbers

    def _check_value_range(self, numbers: SampleArray, stored_bits: int) -> SampleArray:
        """Check that samples of `stored_bits` bits fit the depth that the directory declares, and return them."""
        bits = self._pixel_format.bits_per_sample
        if bits > stored_bits or (bits < stored_bits and numbers.max() >> bits):
            raise ImageError("CorruptImage", f"tiff cannot be decoded: its parts do not contain {bits}-bit numbers")
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

    # Samples are packed without gaps, highest bit first in either byte order; each row starts at a new byte.
    unpacked: SampleArray = imagecodecs.packints_decode(
        plain[: rows * -(-columns * samples * bits // 8)],
        np.uint8 if bits < 8 else np.uint16,
        bits,
        runlen=columns * samples,
    )
    return unpacked.reshape(shape)


def _build_level_table(pixel_format: PixelFormat, sample_index: int) -> SampleArray | None:
    """Build the table from stored values of a sample to 8-bit levels; None if values stay unchanged."""
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
    """Build the table for a sample of L*a*b*: lightness 0 to 255, a* and b* with zero at 128."""
    is_icc = pixel_format.photometric == Photometric.ICCLAB
    if pixel_format.bits_per_sample == 8:
        return None if sample_index == 0 or is_icc else np.arange(256, dtype=np.uint8) ^ np.uint8(0x80)
    values = np.arange(65536)
    if sample_index == 0:
        # White is 0xFF00 in ICC's encoding.
        white = 0xFF00 if is_icc else 0xFFFF
        levels = (values * 255 + white // 2) // white
    else:
        levels = ((values if is_icc else values ^ 0x8000) + 128) >> 8
    return np.minimum(levels, 255).astype(np.uint8)


def _apply_level_table(numbers: SampleArray, levels: SampleArray | None) -> SampleArray:
    return numbers if levels is None else levels[numbers]
