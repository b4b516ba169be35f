"""Memory for pixels that is used again: taking it anew for each image costs as much as a quarter of decoding it."""

from __future__ import annotations

import sys
import threading
from typing import Final

import numpy as np
import numpy.typing as npt

_MAX_BUFFER_BYTES: Final = 16 << 20
"""Bytes that each thread keeps at most."""
_UNUSED_REFCOUNT: Final = 3
"""References to memory that nobody uses: the thread's, a local variable's, and that of the question itself."""


class _ThreadBuffer(threading.local):
    memory: npt.NDArray[np.uint8] | None = None


_thread_buffer: Final = _ThreadBuffer()


def get_scratch_buffer(byte_count: int) -> npt.NDArray[np.uint8]:
    """Get memory whose contents are undefined, and which is not given to anybody else as long as it is referred to.

    Args:
        byte_count: Bytes.

    Returns:
        uint8, (count,).
    """
    memory = _thread_buffer.memory
    if memory is not None and memory.size >= byte_count and sys.getrefcount(memory) <= _UNUSED_REFCOUNT:
        return memory[:byte_count]
    new: npt.NDArray[np.uint8] = np.empty(byte_count, np.uint8)
    if byte_count <= _MAX_BUFFER_BYTES:
        _thread_buffer.memory = new
        return new[:]
    return new
