"""Memory for pixels that is used again: taking it anew for each image costs as much as a quarter of decoding it."""

from __future__ import annotations

import sys
import threading
from typing import Final

import numpy as np
import numpy.typing as npt

_LARGEST: Final = 16 << 20
"""Bytes that each thread keeps at most."""
_UNUSED: Final = 3
"""References to memory that nobody uses: the thread's, a local variable's, and that of the question itself."""


class _Kept(threading.local):
    memory: npt.NDArray[np.uint8] | None = None


_kept: Final = _Kept()


def scratch(count: int) -> npt.NDArray[np.uint8]:
    """Get memory whose contents are undefined, and which is not given to anybody else as long as it is referred to.

    Args:
        count: Bytes.

    Returns:
        uint8, (count,).
    """
    memory = _kept.memory
    if memory is not None and memory.size >= count and sys.getrefcount(memory) <= _UNUSED:
        return memory[:count]
    new: npt.NDArray[np.uint8] = np.empty(count, np.uint8)
    if count <= _LARGEST:
        _kept.memory = new
        return new[:]
    return new
