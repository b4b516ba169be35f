"""Masks as runs of pixels, column by column: moved, joined and encoded without their pixels in memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from cvbatch.images.preprocess import Size
from cvbatch.images.tiles import Window
from cvbatch.tasks.masks import rle_runs

Runs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""First pixel of each run inside of a mask, and the pixel after its last; counted down the columns, in ascending order,
with a gap between two runs."""


def decode_runs(counts: bytes) -> Runs:
    """Return the runs of an encoded mask.

    Args:
        counts: A value of a `_masks` column.
    """
    bounds = np.cumsum(rle_runs(counts))
    return _without_gaps(bounds[0::2][: len(bounds) // 2], bounds[1::2])


def encode_runs(runs: Runs, size: Size) -> bytes:
    """Encode a mask.

    Args:
        runs: Of the mask.
        size: (width, height) of the image.

    Returns:
        The compressed counts, as `cvbatch.tasks.masks.decode_mask` expects them.
    """
    width, height = size
    bounds = np.column_stack(runs).ravel()
    lengths = np.diff(bounds, prepend=0, append=width * height)
    if lengths[-1] == 0:
        lengths = lengths[:-1]
    counts: bytes = coco.frPyObjects({"counts": lengths.tolist(), "size": [height, width]}, height, width)["counts"]
    return counts


def move_runs(runs: Runs, window: Window, height: int) -> Runs:
    """Move the runs of a window to their place in the image.

    Args:
        runs: In the window.
        window: In the image.
        height: Of the image, in pixels.
    """
    starts, ends = runs
    first, last = starts // window.height, (ends - 1) // window.height
    counts = last - first + 1  # a run of the window is one for each of its columns
    run = np.repeat(np.arange(len(starts)), counts)
    column = np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts) + first[run]
    top_of_column = (window.left + column) * height + window.top
    in_column = np.where(column == first[run], starts[run] - first[run] * window.height, 0)
    until = np.where(column == last[run], ends[run] - last[run] * window.height, window.height)
    return _without_gaps(top_of_column + in_column, top_of_column + until)


def join_runs(masks: Iterable[Runs]) -> Runs:
    """Return the pixels that are in any of several masks of one image."""
    pairs = [np.column_stack(runs) for runs in masks]
    together = np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64)
    together = together[np.argsort(together[:, 0], kind="stable")]
    if not len(together):
        return together[:, 0], together[:, 1]
    reach = np.maximum.accumulate(together[:, 1])
    is_first = np.append(True, together[1:, 0] > reach[:-1])
    return together[is_first, 0], reach[np.append(is_first[1:], True)]


def _without_gaps(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> Runs:
    """Join runs that have no pixel between them, and drop empty ones."""
    has_pixels = ends > starts
    starts, ends = starts[has_pixels], ends[has_pixels]
    is_first = np.append(True, starts[1:] > ends[:-1])[: len(starts)]
    return starts[is_first], ends[np.append(is_first[1:], True)[: len(ends)]]
