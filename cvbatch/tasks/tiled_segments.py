"""The segments of an image from those of its tiles: each pixel is decided by the tile in whose middle it lies.

There is no label map of the whole image, but the runs of equal labels down its columns: a map of 400 megapixels would
take 400 MB.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from cvbatch.images.preprocess import Size
from cvbatch.images.tiles import Tiles, Window, core_bounds, tile_starts
from cvbatch.tasks.base import ModelFacts, TileMerger
from cvbatch.tasks.mask_runs import encode_runs
from cvbatch.tasks.masks import decode_mask
from cvbatch.tasks.segmentation import SegmentAnswer


class SegmentMerger(TileMerger):
    """Collects the runs of equal labels in the middle of each tile.

    Args:
        model: The model that answers.
        tiles: How the image is cut.
        size: (width, height) of the image.
    """

    def __init__(self, model: ModelFacts, tiles: Tiles, size: Size) -> None:
        self._size, self._nothing = size, len(model.categories)
        self._tile_starts = [tile_starts(tiles, length) for length in reversed(size)]
        self._cores = [core_bounds(tiles, length) for length in reversed(size)]
        self._starts = [np.empty(0, np.int64)]
        self._labels = [np.empty(0, np.min_scalar_type(self._nothing))]

    def add_tile(self, window: Window, answer: SegmentAnswer) -> None:
        """See `TileMerger.add_tile`."""
        tile = np.full((window.height, window.width), self._nothing, self._labels[0].dtype)
        for label, counts in zip(answer.label_ids.tolist(), answer.masks, strict=True):
            tile[decode_mask(counts, window.height, window.width)] = label
        (top, bottom), (left, right) = (self._core_of(axis, window[axis]) for axis in (0, 1))
        columns = tile[top - window.top : bottom - window.top, left - window.left : right - window.left].T
        begins = np.ones(columns.shape, np.bool_)
        begins[:, 1:] = columns[:, 1:] != columns[:, :-1]
        column, row = np.nonzero(begins)
        self._starts.append((column + left) * self._size[1] + row + top)
        self._labels.append(columns[begins])

    def join_tiles(self) -> SegmentAnswer:
        """See `TileMerger.join_tiles`."""
        starts, labels = np.concatenate(self._starts), np.concatenate(self._labels)
        order = np.argsort(starts)
        starts, labels = starts[order], labels[order]
        begins = np.append(True, labels[1:] != labels[:-1])
        starts, labels = starts[begins], labels[begins]
        pixels = self._size[0] * self._size[1]
        ends = np.append(starts[1:], pixels)
        areas = np.bincount(labels, ends - starts, minlength=self._nothing + 1)[: self._nothing]
        present = np.flatnonzero(areas)
        return SegmentAnswer(
            label_ids=present.astype(np.int32),
            areas=(areas[present] / pixels).astype(np.float32),
            masks=[encode_runs((starts[labels == label], ends[labels == label]), self._size) for label in present],
        )

    def _core_of(self, axis: int, start: int) -> tuple[int, int]:
        position = bisect_right(self._tile_starts[axis], start) - 1
        return self._cores[axis][position], self._cores[axis][position + 1]
