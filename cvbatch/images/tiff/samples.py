"""The numbers of a picture, put together from its strips or tiles, 8 bits each."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError
from cvbatch.images.tiff.codecs import BYTE_CODECS, reverse_bits, unpack
from cvbatch.images.tiff.directory import Directory, Tag
from cvbatch.images.tiff.image_codecs import FAX, read_picture
from cvbatch.images.tiff.jpeg import read_jpeg_part
from cvbatch.images.tiff.layout import Layout, Part, parts_of
from cvbatch.images.tiff.luma_chroma import LumaChroma
from cvbatch.images.tiff.meaning import JPEG, Meaning, Photometric

Numbers: TypeAlias = npt.NDArray[Any]
_WIDEST: Final = 8
"""Bytes of a pixel that a part of the largest size may have."""


def read_samples(directory: Directory, meaning: Meaning, layout: Layout, max_pixels: int) -> Numbers:
    """Unpack a picture.

    Args:
        directory: Of the picture.
        meaning: What its numbers are.
        layout: How it is cut up.
        max_pixels: As `cvbatch.images.decode.decode` has it.

    Returns:
        (height, width, samples that are kept): uint8, 0 to 255 for black to white (for luma and chroma: RGB), or
        the places in a palette as they are.

    Raises:
        ImageError: `TruncatedImage`, `CorruptImage` or `UnsupportedImage`.
    """
    reader = _PartReader(directory, meaning, layout)
    together = layout.planes == 1
    numbers = meaning.samples if together else 1
    if layout.rows * layout.columns * numbers * meaning.bits // 8 > _WIDEST * max(max_pixels, 1 << 20):
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {meaning.samples} bands in parts that large")
    kept = meaning.kept
    levels = [_levels(meaning, place) for place in kept]
    index = np.uint16 if meaning.photometric == Photometric.PALETTE and meaning.bits > 8 else np.uint8
    whole = np.empty((layout.height, layout.width, len(kept)), index)
    as_stored = together and kept == tuple(range(numbers)) and all(level is None for level in levels)
    for part in parts_of(directory, layout, reader.stored_bytes):
        if not together and part.plane not in kept:
            continue
        block = reader.read(part)
        if as_stored and layout.count == 1 and block.shape == whole.shape:
            return block
        target = whole[part.top : part.top + layout.rows, part.left : part.left + layout.columns]
        block = block[: target.shape[0], : target.shape[1]]
        if as_stored:
            target[...] = block
            continue
        places = enumerate(kept) if together else [(kept.index(part.plane), 0)]
        for place, source in places:
            target[..., place] = _scaled(block[..., source], levels[place])
    return whole


class _PartReader:
    """Strips or tiles of one picture to numbers."""

    def __init__(self, directory: Directory, meaning: Meaning, layout: Layout) -> None:
        self._directory = directory
        self._meaning = meaning
        self._columns = layout.columns
        self._samples = meaning.samples if layout.planes == 1 else 1
        self._tables = directory.raw(Tag.JPEG_TABLES)
        is_jpeg = meaning.compression in JPEG
        mixed = meaning.photometric == Photometric.YCBCR
        if mixed and (meaning.alpha is not None or layout.planes > 1 or meaning.is_difference):
            raise ImageError("UnsupportedImage", "cannot read a TIFF of luma and chroma in planes or with extra bands")
        self._luma_chroma = LumaChroma.of(directory) if mixed and not is_jpeg else None
        if self._luma_chroma is not None and meaning.compression not in BYTE_CODECS:
            raise ImageError("UnsupportedImage", "cannot read a TIFF of luma and chroma with this compression")

    def stored_bytes(self, rows: int) -> int:
        """Bytes of so many rows that are not compressed."""
        if self._luma_chroma is not None:
            return self._luma_chroma.stored_bytes(rows, self._columns)
        return rows * -(-self._columns * self._samples * self._meaning.bits // 8)

    def read(self, part: Part) -> Numbers:
        """The numbers of a part, (rows, columns, samples) or more of both."""
        meaning = self._meaning
        shape = part.rows, part.columns, self._samples
        packed = part.packed
        if meaning.compression in JPEG:
            mixed = meaning.photometric == Photometric.YCBCR
            return read_jpeg_part(packed, self._tables, shape, luma_chroma=mixed)
        if meaning.is_reversed and (meaning.compression in BYTE_CODECS or meaning.compression in FAX):
            packed = reverse_bits(packed)
        if meaning.compression not in BYTE_CODECS:
            numbers: Numbers = np.empty(shape, np.uint8 if meaning.bits <= 8 else np.uint16)
            read_picture(meaning.compression, packed, self._directory, numbers)
            return self._checked(numbers, numbers.itemsize * 8)
        plain = unpack(meaning.compression, packed, self.stored_bytes(part.rows))
        if self._luma_chroma is not None:
            return self._luma_chroma.to_rgb(plain, part.rows, part.columns)
        numbers = _numbers(plain, shape, meaning, self._directory.order)
        if meaning.is_difference:
            np.add.accumulate(numbers, axis=1, dtype=numbers.dtype, out=numbers)
        return numbers

    def _checked(self, numbers: Numbers, stored: int) -> Numbers:
        """Numbers of `stored` bits, none larger than those that the directory tells of."""
        bits = self._meaning.bits
        if bits > stored or (bits < stored and numbers.max() >> bits):
            raise ImageError("CorruptImage", f"tiff cannot be decoded: its parts do not hold {bits}-bit numbers")
        return numbers


def _numbers(plain: bytes, shape: tuple[int, int, int], meaning: Meaning, order: str) -> Numbers:
    rows, columns, samples = shape
    bits = meaning.bits
    if bits in (8, 16):
        dtype = np.dtype(f"{order}u{bits // 8}")
        stored = np.frombuffer(plain, dtype, rows * columns * samples).reshape(shape)
        return stored.astype(dtype.newbyteorder("="), copy=meaning.is_difference)
    import imagecodecs

    # Numbers are packed without gaps, the highest bit first in either byte order; each row begins a byte.
    unpacked: Numbers = imagecodecs.packints_decode(
        plain[: rows * -(-columns * samples * bits // 8)],
        np.uint8 if bits < 8 else np.uint16,
        bits,
        runlen=columns * samples,
    )
    return unpacked.reshape(shape)


def _levels(meaning: Meaning, place: int) -> Numbers | None:
    """What becomes of each value of a sample, as a table; None if it stays what it is."""
    largest = (1 << meaning.bits) - 1
    is_alpha = meaning.alpha is not None and place == meaning.alpha_at
    if not is_alpha and meaning.photometric == Photometric.PALETTE:
        return None
    if not is_alpha and meaning.photometric in (Photometric.CIELAB, Photometric.ICCLAB):
        return _lab_levels(meaning, place)
    values = np.arange(largest + 1, dtype=np.uint32)
    scaled = ((values * 255 * 2 + largest) // (2 * largest)).astype(np.uint8)
    if not is_alpha and meaning.photometric == Photometric.WHITE_IS_ZERO:
        scaled = 255 - scaled
    elif meaning.bits == 8:
        return None
    return scaled


def _lab_levels(meaning: Meaning, place: int) -> Numbers | None:
    """Lightness 0 to 255, and both colours with their zero at 128."""
    icc = meaning.photometric == Photometric.ICCLAB
    if meaning.bits == 8:
        return None if place == 0 or icc else np.arange(256, dtype=np.uint8) ^ np.uint8(0x80)
    values = np.arange(65536)
    if place == 0:
        # ICC's white is 0xFF00
        white = 0xFF00 if icc else 0xFFFF
        levels = (values * 255 + white // 2) // white
    else:
        levels = ((values if icc else values ^ 0x8000) + 128) >> 8
    return np.minimum(levels, 255).astype(np.uint8)


def _scaled(numbers: Numbers, levels: Numbers | None) -> Numbers:
    return numbers if levels is None else levels[numbers]
