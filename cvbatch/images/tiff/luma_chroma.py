"""Convert luma and chroma that are not compressed as JPEG to RGB (TIFF 6.0, section 21)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError
from cvbatch.images.tiff.directory import TiffDirectory, TiffTag

_BT601_COEFFICIENTS: Final = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in luma (ITU-R BT.601)."""
_FULL_RANGE_REFERENCE: Final = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)

_BAND_ROWS: Final = 64
"""Rows converted at once, because float32 takes four times the memory."""


@dataclass(frozen=True, slots=True)
class LumaChroma:
    """Storage of luma and chroma of 8 bits.

    They are stored in blocks of `subsample_columns` x `subsample_rows` luma samples and one sample of each chroma.
    """

    subsample_columns: int
    subsample_rows: int
    coefficients: tuple[float, float, float]
    reference_black_white: tuple[float, ...]
    """Codes for black and white of luma, then for zero and maximum of both chromas."""

    @classmethod
    def from_directory(cls, directory: TiffDirectory) -> LumaChroma:
        """Read the storage from the tags.

        Raises:
            ImageError: `CorruptImage`, if they are not valid.
        """
        columns, rows = (*directory.get_integers(TiffTag.YCBCR_SUBSAMPLING), 2, 2)[:2]
        if TiffTag.YCBCR_SUBSAMPLING in directory and len(directory.get_integers(TiffTag.YCBCR_SUBSAMPLING)) < 2:
            rows = columns
        red, green, blue = (directory.get_rationals(TiffTag.YCBCR_COEFFICIENTS) or _BT601_COEFFICIENTS)[:3]
        reference = directory.get_rationals(TiffTag.REFERENCE_BLACK_WHITE) or _FULL_RANGE_REFERENCE
        spans = [white - black for black, white in zip(reference[::2], reference[1::2], strict=False)]
        if len(spans) != 3 or not all(map(math.isfinite, (red, blue, *spans))) or not all((*spans, green)):
            raise ImageError("CorruptImage", "tiff cannot be decoded: the ranges of its luma and chroma are not valid")
        if {columns, rows} - {1, 2, 4}:
            raise ImageError("CorruptImage", "tiff cannot be decoded: its chroma subsampling is not valid")
        return cls(columns, rows, (red, green, blue), reference)

    def count_stored_bytes(self, rows: int, columns: int) -> int:
        """Return the stored bytes of a number of rows and columns."""
        return (
            -(-rows // self.subsample_rows)
            * -(-columns // self.subsample_columns)
            * (self.subsample_columns * self.subsample_rows + 2)
        )

    def decode_to_rgb(self, plain: bytes, rows: int, columns: int) -> npt.NDArray[np.uint8]:
        """Convert blocks to RGB, uint8 (rows, columns, 3); like libtiff, chroma is repeated within its block."""
        blocks_down, blocks_across = -(-rows // self.subsample_rows), -(-columns // self.subsample_columns)
        luma_count = self.subsample_columns * self.subsample_rows
        blocks = np.frombuffer(plain, np.uint8, blocks_down * blocks_across * (luma_count + 2))
        blocks = blocks.reshape(blocks_down, blocks_across, luma_count + 2)
        block_shape = self.subsample_rows, self.subsample_columns
        luma = blocks[..., :luma_count].reshape(blocks_down, blocks_across, *block_shape).transpose(0, 2, 1, 3)
        luma = luma.reshape(blocks_down * block_shape[0], blocks_across * block_shape[1])[:rows, :columns]
        blue, red = (
            blocks[..., luma_count + channel]
            .repeat(self.subsample_rows, 0)
            .repeat(self.subsample_columns, 1)[:rows, :columns]
            for channel in (0, 1)
        )
        rgb = np.empty((rows, columns, 3), np.uint8)
        for top in range(0, rows, _BAND_ROWS):
            band = slice(top, top + _BAND_ROWS)
            self._convert_band(rgb[band], luma[band], blue[band], red[band])
        return rgb

    def _convert_band(
        self,
        rgb: npt.NDArray[np.uint8],
        luma: npt.NDArray[np.uint8],
        blue: npt.NDArray[np.uint8],
        red: npt.NDArray[np.uint8],
    ) -> None:
        codes = np.arange(256, dtype=np.float32)
        black, white, zero_blue, max_blue, zero_red, max_red = self.reference_black_white
        brightness = ((codes - black) * np.float32(255 / (white - black)))[luma]
        chroma_blue = (codes - zero_blue) * np.float32(127 / (max_blue - zero_blue))
        chroma_red = (codes - zero_red) * np.float32(127 / (max_red - zero_red))
        share_red, share_green, share_blue = self.coefficients
        to_red = (chroma_red * np.float32(2 - 2 * share_red))[red]
        to_blue = (chroma_blue * np.float32(2 - 2 * share_blue))[blue]
        to_green = (to_red * np.float32(share_red) + to_blue * np.float32(share_blue)) / np.float32(share_green)
        for channel, plane in (
            (0, brightness + to_red),
            (1, brightness - to_green),
            (2, brightness + to_blue),
        ):
            rgb[..., channel] = np.clip(np.rint(plane), 0, 255)
