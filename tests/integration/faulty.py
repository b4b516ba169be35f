"""A model without torch that fails on purpose: an image's size tells which one it is, and what happens to it.

It is copied beside the job file of each test, so that the workers import it as `faulty`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cvbatch.images.preprocess import View

PLAIN, DIES, SEGFAULTS, RAISES, HANGS, HANGS_IN_C = range(40, 46)
"""What happens to an image: its width, but for the hundreds."""
_SHEET = 1_000
_FOR_EVER = 86_400


def size_of(number: int, deed: int = PLAIN) -> tuple[int, int]:
    """Width and height of the image with this number, which does this deed."""
    return deed + 100 * (number // _SHEET), number % _SHEET + 1


def number_of(size: tuple[int, int]) -> int:
    """Which image it is."""
    return size[0] // 100 * _SHEET + size[1] - 1


class Faulty:
    """The mean brightness of an image, if nothing happens.

    Args:
        seconds: What an image takes.
        hurry: A file; once it is there, images take no time any more.
        once: A file; the first deed creates it, and there is no other.
        mended: A file; once it is there, images do no deeds any more.
        diary: A file that gets a line with time and number of each image that is looked at.
        starts: A file that gets a line per call of this constructor.
        broken_starts: Which of these calls raise, counted from 1.
    """

    task = "classification"
    view = View(resize=(8, 8))
    categories = ("dark", "bright")

    def __init__(
        self,
        seconds: float = 0.0,
        once: str = "",
        mended: str = "",
        diary: str = "",
        starts: str = "",
        broken_starts: Sequence[int] = (),
        hurry: str = "",
    ) -> None:
        self._hurry = hurry
        self._seconds, self._once, self._mended, self._diary = seconds, once, mended, diary
        if starts and _append(starts, f"{os.getpid()}") in broken_starts:
            raise RuntimeError("the weights did not come")

    def predict(
        self, images: Sequence[npt.NDArray[np.uint8]], sizes: Sequence[tuple[int, int]]
    ) -> npt.NDArray[np.float32]:
        """Shares of darkness and brightness."""
        for size in sizes:
            if self._diary:
                _append(self._diary, f"{time.time()} {number_of(size)}")
            deed = size[0] % 100
            if deed != PLAIN and self._is_to_happen():
                _do(deed)
            if not (self._hurry and Path(self._hurry).exists()):
                time.sleep(self._seconds)
        light = np.array([image.mean() / 255 for image in images])
        return np.stack([1 - light, light], axis=1).astype(np.float32)

    def _is_to_happen(self) -> bool:
        if self._once:
            try:
                Path(self._once).touch(exist_ok=False)
            except FileExistsError:
                return False
        return not (self._mended and Path(self._mended).exists())


class Greedy(Faulty):
    """Leaves no memory for another one in its process; `name` makes it another network than the next."""

    _living: ClassVar[weakref.WeakSet[Greedy]] = weakref.WeakSet()

    def __init__(self, name: str, when: str = "loading", **options: Any) -> None:
        super().__init__(**options)
        self._living.add(self)
        self._when = when
        self._take_memory("loading")

    def predict(
        self, images: Sequence[npt.NDArray[np.uint8]], sizes: Sequence[tuple[int, int]]
    ) -> npt.NDArray[np.float32]:
        """As there."""
        self._take_memory("predicting")
        return super().predict(images, sizes)

    def _take_memory(self, what: str) -> None:
        if len(self._living) > 1 and what == self._when:
            raise MemoryError(f"no memory for {what}")


def _do(deed: int) -> None:
    if deed == DIES:
        os.kill(os.getpid(), signal.SIGKILL)
    elif deed == SEGFAULTS:
        ctypes.string_at(0)
    elif deed == RAISES:
        raise ValueError("not this one")
    elif deed == HANGS:
        threading.Event().wait(_FOR_EVER)
    elif deed == HANGS_IN_C:
        ctypes.PyDLL(None).sleep(_FOR_EVER)  # which does not let go of the interpreter


def _append(path: str, line: str) -> int:
    """Append a line in one piece; returns how many there are."""
    with open(path, "a") as file:
        file.write(f"{line}\n")
    return len(Path(path).read_text().splitlines())
