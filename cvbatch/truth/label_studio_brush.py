"""Label Studio's run-length encoding of brushes, `@thi.ng/rle-pack`: bits of runs of bytes, four for each pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cvbatch.errors import UsageError
from cvbatch.tasks.masks import Mask

_CHANNELS = 4
_HEADER_BITS = 53


def decode_brush(rle: Sequence[int], height: int, width: int) -> Mask:
    """Decode a brush.

    Args:
        rle: Bytes as numbers.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        Bool, (height, width): where the last channel, which is how opaque a pixel is, is not 0.

    Raises:
        UsageError: If it is damaged, or of another size.
    """
    bits = "".join(f"{byte:08b}" for byte in rle)
    total = int(bits[:32] or "0", 2)
    if len(bits) < _HEADER_BITS or total != height * width * _CHANNELS:
        raise UsageError(f"expected a brush of {height} × {width} pixels, got one of {total / _CHANNELS:g}")
    word, sizes = int(bits[32:37], 2) + 1, [int(bits[start : start + 4], 2) + 1 for start in range(37, 53, 4)]
    values, position, filled = np.zeros(total, np.uint8), _HEADER_BITS, 0
    while filled < total:
        size = sizes[int(bits[position + 1 : position + 3] or "0", 2)]
        count = int(bits[position + 3 : position + 3 + size] or "0", 2) + 1
        is_run, position = bits[position : position + 1] == "1", position + 3 + size
        words = 1 if is_run else count
        if position + words * word > len(bits):
            raise UsageError("expected a whole brush, got one that ends early")
        given = [int(bits[start : start + word], 2) for start in range(position, position + words * word, word)]
        values[filled : filled + count] = given
        position, filled = position + words * word, filled + count
    opaque: Mask = values.reshape(height, width, _CHANNELS)[:, :, -1] > 0
    return opaque
