"""ATSS against a plain version of the paper's algorithm."""

from __future__ import annotations

import numpy as np
import torch

from cvbatch.training.torch.anchor_matching import Cells, match_cells


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    sides = np.clip(np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2]), 0, None)
    areas = [np.prod(box[2:] - box[:2]) for box in (first, second)]
    return float(np.prod(sides) / (sum(areas) - np.prod(sides)))


def match_plainly(boxes: np.ndarray, centres: np.ndarray, strides: np.ndarray) -> list[int]:
    """Algorithm 1 of arXiv:1912.02424, box by box and cell by cell."""
    best = {index: (0.0, -1) for index in range(len(centres))}
    for number, box in enumerate(boxes):
        middle = (box[:2] + box[2:]) / 2
        candidates: list[int] = []
        for stride in np.unique(strides):
            level = np.flatnonzero(strides == stride)
            distance = np.linalg.norm(centres[level] - middle, axis=1)
            candidates += level[np.argsort(distance, kind="stable")[:9]].tolist()
        squares = {
            index: np.concatenate([centres[index] - 2.5 * strides[index], centres[index] + 2.5 * strides[index]])
            for index in candidates
        }
        overlaps = {index: overlap(square, box) for index, square in squares.items()}
        values = np.array(list(overlaps.values()))
        limit = values.mean() + values.std(ddof=1)
        for index, value in overlaps.items():
            x, y = centres[index]
            if value >= limit and box[0] < x < box[2] and box[1] < y < box[3] and value > best[index][0]:
                best[index] = (value, number)
    return [number for _, number in best.values()]


def test_cells_are_matched_as_the_paper_says() -> None:
    draw = np.random.default_rng(4)
    cells = Cells.of_frame(96, 128, torch.device("cpu"))
    for _ in range(5):
        corners = draw.uniform(0, 70, (6, 2))
        boxes = np.concatenate([corners, corners + draw.uniform(6, 50, (6, 2))], axis=1).astype(np.float32)
        matched = match_cells(torch.from_numpy(boxes), cells)
        expected = match_plainly(boxes, cells.centres.numpy(), cells.strides.numpy())
        assert matched.tolist() == expected
        assert (matched >= 0).sum() >= 6


def test_an_image_without_boxes_has_no_matched_cell() -> None:
    cells = Cells.of_frame(64, 64, torch.device("cpu"))
    assert (match_cells(torch.zeros(0, 4), cells) == -1).all()
