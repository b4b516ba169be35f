"""Boxes that overlap are found with bounded memory, and as pair by pair."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from torchvision.ops import box_iou

from cvbatch.results import overlapping_boxes
from cvbatch.results.overlapping_boxes import find_overlapping_pairs


@pytest.mark.parametrize("block_pairs", [1, 50, 1 << 18])
def test_pairs_equal_those_of_torchvision(monkeypatch: pytest.MonkeyPatch, block_pairs: int) -> None:
    import torch

    monkeypatch.setattr(overlapping_boxes, "_BLOCK_PAIRS", block_pairs)
    generator = np.random.default_rng(0)
    keys = [generator.integers(0, 4, count) for count in (60, 70)]
    corners = [generator.uniform(0, 20, (len(side), 2)) for side in keys]
    boxes = [np.concatenate([corner, corner + generator.uniform(2, 15, corner.shape)], axis=1) for corner in corners]
    first, second, overlaps = find_overlapping_pairs(keys[0], boxes[0], keys[1], boxes[1], 0.3)
    expected = box_iou(*map(torch.from_numpy, boxes)).numpy() * (keys[0][:, None] == keys[1])
    pairs = set(zip(*(side.tolist() for side in np.nonzero(expected >= 0.3)), strict=True))
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == pairs
    assert len(pairs) == len(first) > 20
    assert overlaps == pytest.approx(expected[first, second])


def test_thousands_of_boxes_in_an_image_need_little_memory() -> None:
    keys = np.zeros(2000, np.int64)
    corners = np.arange(2000.0)[:, None] * [10, 10]
    boxes = np.concatenate([corners, corners + 8], axis=1)
    tracemalloc.start()
    first, second, _ = find_overlapping_pairs(keys, boxes, keys, boxes, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert first.tolist() == second.tolist() == list(range(2000))
    assert peak < 100 << 20  # the corners of all four million pairs alone take 256 MB
