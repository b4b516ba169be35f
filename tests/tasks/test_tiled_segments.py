"""Segments of tiles are stitched; each pixel is decided by the tile in whose middle it lies."""

from __future__ import annotations

import numpy as np
import pytest

from cvbatch.images.tiles import Tiles, core_bounds, cut_windows
from cvbatch.tasks.segmentation import SegmentAnswer, emitted_label_ids, summarize_label_map
from cvbatch.tasks.tiled_segments import SegmentMerger
from tests.samples import spec

MODEL = spec("segmentation", "segmentation", categories=(None, "a", "b", "c"))
SIZE = (70, 50)
LABELS = np.asfortranarray(np.kron(np.random.default_rng(2).integers(0, 4, (5, 7)), np.ones((10, 10))).astype(np.uint8))


def answer(labels: np.ndarray) -> SegmentAnswer:
    return summarize_label_map(np.asfortranarray(labels), emitted_label_ids(MODEL))


@pytest.mark.parametrize("tiles", [Tiles(size=20), Tiles(size=33, overlap=0.5), Tiles(size=64, overlap=0)])
@pytest.mark.parametrize("wrong_border", [0, 1])
def test_stitched_segments_are_those_of_the_whole(tiles: Tiles, wrong_border: int) -> None:
    merger = SegmentMerger(MODEL, tiles, SIZE)
    rows, columns = (core_bounds(tiles, length) for length in (SIZE[1], SIZE[0]))
    windows = cut_windows(tiles, SIZE)
    for position, (top, left, height, width) in enumerate(windows):
        part = LABELS[top : top + height, left : left + width].copy()
        if wrong_border:  # what lies nearer to the middle of a neighbour does not matter
            row, column = divmod(position, len(columns) - 1)
            wrong = np.ones_like(part, np.bool_)
            core = (
                slice(rows[row] - top, rows[row + 1] - top),
                slice(columns[column] - left, columns[column + 1] - left),
            )
            wrong[core] = False
            part[wrong] = 1
        merger.add_tile(windows[position], answer(part))
    joined, expected = merger.join_tiles(), answer(LABELS)
    np.testing.assert_array_equal(joined.label_ids, expected.label_ids)
    np.testing.assert_array_equal(joined.areas, expected.areas)
    assert joined.masks == expected.masks


def test_picture_without_a_named_segment_has_none() -> None:
    merger = SegmentMerger(MODEL, Tiles(size=40), SIZE)
    for window in cut_windows(Tiles(size=40), SIZE):
        merger.add_tile(window, answer(np.zeros((window.height, window.width), np.uint8)))
    assert len(merger.join_tiles().label_ids) == 0
