"""Reuse memory for pixels: allocating it for each image costs as much as a quarter of decoding."""

from __future__ import annotations

import sys
import threading
from typing import Final

import numpy as np
import numpy.typing as npt

_MAX_BUFFER_BYTES: Final = 16 << 20
"""Most bytes that each thread keeps for reuse."""
_UNUSED_REFCOUNT: Final = 3
"""References to unused memory: the thread's, a local variable's, and the argument of `sys.getrefcount`."""


class _ThreadBuffer(threading.local):
    memory: npt.NDArray[np.uint8] | None = None


_thread_buffer: Final = _ThreadBuffer()


def get_scratch_buffer(byte_count: int) -> npt.NDArray[np.uint8]:
    """Return memory with undefined contents; it is not reused as long as anything refers to it.

    Args:
        byte_count: Size of the memory.

    Returns:
        uint8, (byte_count,).
    """
    memory = _thread_buffer.memory
    if memory is not None and memory.size >= byte_count and sys.getrefcount(memory) <= _UNUSED_REFCOUNT:
        return memory[:byte_count]
    allocated: npt.NDArray[np.uint8] = np.empty(byte_count, np.uint8)
    if byte_count <= _MAX_BUFFER_BYTES:
        _thread_buffer.memory = allocated
        return allocated[:]
    return allocated
