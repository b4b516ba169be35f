"""Masks as runs are the same masks as their pixels."""

from __future__ import annotations

import numpy as np
import pytest

from cvbatch.images.tiles import Window
from cvbatch.tasks.mask_runs import decode_runs, encode_runs, join_runs, move_runs
from cvbatch.tasks.masks import decode_mask, encode_mask

RANDOM = np.random.default_rng(5)
MASKS = [
    np.zeros((4, 3), np.bool_),
    np.ones((4, 3), np.bool_),
    np.eye(5, 7, dtype=np.bool_),
    *(RANDOM.random((11, 9)) < share for share in (0.1, 0.5, 0.9)),
]


@pytest.mark.parametrize("mask", MASKS, ids=range(len(MASKS)))
def test_decoding_and_encoding_keeps_each_byte(mask: np.ndarray) -> None:
    counts = encode_mask(mask)
    assert encode_runs(decode_runs(counts), (mask.shape[1], mask.shape[0])) == counts


@pytest.mark.parametrize("mask", MASKS, ids=range(len(MASKS)))
@pytest.mark.parametrize("place", [(0, 0), (3, 2), (20 - 11, 0)])
def test_moved_mask_is_at_its_place(mask: np.ndarray, place: tuple[int, int]) -> None:
    height, width = mask.shape
    picture = np.zeros((20, 15), np.bool_)
    picture[place[0] : place[0] + height, place[1] : place[1] + width] = mask
    moved = move_runs(decode_runs(encode_mask(mask)), Window(*place, height, width), 20)
    assert encode_runs(moved, (15, 20)) == encode_mask(picture)


def test_joined_masks_are_their_union() -> None:
    masks = [RANDOM.random((20, 15)) < 0.2 for _ in range(4)]
    joined = join_runs(decode_runs(encode_mask(mask)) for mask in masks)
    np.testing.assert_array_equal(decode_mask(encode_runs(joined, (15, 20)), 20, 15), np.any(masks, axis=0))
    assert encode_runs(joined, (15, 20)) == encode_mask(np.any(masks, axis=0))
    assert decode_mask(encode_runs(join_runs([]), (2, 3)), 3, 2).sum() == 0
