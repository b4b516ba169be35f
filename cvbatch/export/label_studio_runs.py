"""Label Studio's run-length encoding of brushes: that of `@thi.ng/rle-pack`, over the four channels of each pixel.

A stream of bits: the number of values (32), bits of a value less one (5), four lengths less one (4 each); then for each
run a 1, which of the lengths (2), the number of values less one, and the value.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.export.mask_forms import row_runs
from cvbatch.tasks.masks import Mask

_VALUE_BITS: Final = 8
_LENGTH_BITS: Final = np.array([3, 4, 8, 16])
_LONGEST: Final = 1 << 16
_CHANNELS: Final = 4
_PAINTED: Final = 255


def encode_brush(mask: Mask) -> list[int]:
    """Encode a mask.

    Args:
        mask: Bool, (height, width).

    Returns:
        Bytes as numbers, as they stand in `value.rle`.
    """
    lengths, is_inside = _split_long_runs(row_runs(mask) * _CHANNELS)
    size_index = np.searchsorted(1 << _LENGTH_BITS, lengths)
    widths = _LENGTH_BITS[size_index]
    # the parts of a run are one number: 1, size_index, length - 1, value
    codes = (((4 + size_index) << widths | (lengths - 1)) << _VALUE_BITS) | np.where(is_inside, _PAINTED, 0)
    numbers = np.concatenate([[mask.size * _CHANNELS, _VALUE_BITS - 1], _LENGTH_BITS - 1, codes])
    bit_counts = np.concatenate([[32, 5, 4, 4, 4, 4], widths + 3 + _VALUE_BITS])
    return _pack_bits(numbers, bit_counts)


def _split_long_runs(runs: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Lengths of runs that are neither empty nor too long, and whether each is inside the mask."""
    is_inside = np.arange(len(runs)) % 2 == 1
    counts = -(-runs // _LONGEST)
    lengths = np.full(int(counts.sum()), _LONGEST)
    ends = np.cumsum(counts)[runs > 0] - 1
    lengths[ends] = (runs[runs > 0] - 1) % _LONGEST + 1
    return lengths, np.repeat(is_inside, counts)


def _pack_bits(numbers: npt.NDArray[np.int64], bit_counts: npt.NDArray[np.int64]) -> list[int]:
    """Write numbers one after the other, highest bit first; the last byte is filled with zeros."""
    total = int(bit_counts.sum())
    ends = np.cumsum(bit_counts)
    shifts = np.repeat(ends, bit_counts) - 1 - np.arange(total)
    bits = (np.repeat(numbers, bit_counts) >> shifts) & 1
    packed: list[int] = np.packbits(bits.astype(np.uint8)).tolist()
    return packed
