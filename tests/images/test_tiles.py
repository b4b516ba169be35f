"""Tiles cover a picture, overlap by at least the asked share, and each pixel belongs to the middle of one."""

from __future__ import annotations

import numpy as np
import pytest

from cvbatch.images.tiles import Tiles, Window, core_bounds, cut_windows, tile_starts


@pytest.mark.parametrize("length", [1, 99, 100, 101, 120, 180, 181, 1000, 20_000])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5, 0.9])
def test_tiles_cover_a_side_with_enough_overlap(length: int, overlap: float) -> None:
    tiles = Tiles(size=100, overlap=overlap)
    starts, bounds = np.array(tile_starts(tiles, length)), np.array(core_bounds(tiles, length))
    side = min(length, 100)
    assert starts[0] == 0
    assert starts[-1] + side == length
    assert (starts[:-1] + side - starts[1:] >= 100 * overlap - 1e-9).all()
    assert len(bounds) == len(starts) + 1
    assert (np.diff(bounds) > 0).all()
    assert (bounds[:-1] >= starts).all()
    assert (bounds[1:] <= starts + side).all()


def test_fewest_tiles() -> None:
    assert tile_starts(Tiles(size=100, overlap=0.2), 180) == [0, 80]
    assert tile_starts(Tiles(size=100, overlap=0.2), 181) == [0, 40, 81]


def test_windows_go_row_by_row_and_the_whole_is_last() -> None:
    tiles = Tiles(size=10, overlap=0, whole=True)
    assert cut_windows(tiles, (20, 8)) == [Window(0, 0, 8, 10), Window(0, 10, 8, 10), Window(0, 0, 8, 20)]


def test_small_picture_is_one_window() -> None:
    assert cut_windows(Tiles(size=10, whole=True), (10, 4)) == [Window(0, 0, 4, 10)]
