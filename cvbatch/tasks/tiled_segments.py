"""The segments of an image from those of its tiles: each pixel is decided by the tile in whose middle it lies."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from cvbatch.images.preprocess import Size
from cvbatch.images.tiles import Tiles, Window, core_bounds, tile_starts
from cvbatch.tasks.base import ModelFacts, TileMerger
from cvbatch.tasks.mask_runs import encode_runs, runs_of_labels
from cvbatch.tasks.masks import decode_mask
from cvbatch.tasks.segmentation import SegmentAnswer


class SegmentMerger(TileMerger):
    """Writes the segments of tiles into one label map.

    Args:
        model: The model that answers.
        tiles: How the image is cut.
        size: (width, height) of the image.
    """

    def __init__(self, model: ModelFacts, tiles: Tiles, size: Size) -> None:
        self._size, (width, height) = size, size
        self._nothing = len(model.categories)
        self._labels = np.full((height, width), self._nothing, np.min_scalar_type(self._nothing), order="F")
        self._starts = [tile_starts(tiles, length) for length in (height, width)]
        self._cores = [core_bounds(tiles, length) for length in (height, width)]

    def add_tile(self, window: Window, answer: SegmentAnswer) -> None:
        """See `TileMerger.add_tile`."""
        tile = np.full((window.height, window.width), self._nothing, self._labels.dtype, order="F")
        for label, counts in zip(answer.label_ids.tolist(), answer.masks, strict=True):
            tile[decode_mask(counts, window.height, window.width)] = label
        rows, columns = (self._core_of(axis, window[axis]) for axis in (0, 1))
        self._labels[rows, columns] = tile[
            rows.start - window.top : rows.stop - window.top, columns.start - window.left : columns.stop - window.left
        ]

    def join_tiles(self) -> SegmentAnswer:
        """See `TileMerger.join_tiles`."""
        starts, labels = runs_of_labels(self._labels)
        ends = np.append(starts[1:], self._labels.size)
        areas = np.bincount(labels, ends - starts, minlength=self._nothing + 1)[: self._nothing]
        present = np.flatnonzero(areas)
        return SegmentAnswer(
            label_ids=present.astype(np.int32),
            areas=(areas[present] / self._labels.size).astype(np.float32),
            masks=[encode_runs((starts[labels == label], ends[labels == label]), self._size) for label in present],
        )

    def _core_of(self, axis: int, start: int) -> slice:
        position = bisect_right(self._starts[axis], start) - 1
        return slice(self._cores[axis][position], self._cores[axis][position + 1])
