"""Outlines cover their masks with few points."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cvbatch.report.outlines import simplify_ring, trace_outline
from cvbatch.tasks.masks import Mask, encode_mask


def paint(outlines: list[list[float]], width: int, height: int) -> Mask:
    image = Image.new("1", (width, height))
    for outline in outlines:
        points = [(x * width, y * height) for x, y in zip(outline[::2], outline[1::2], strict=True)]
        ImageDraw.Draw(image).polygon(points, fill=1)
    return np.asarray(image)


def test_an_outline_of_a_large_mask_has_few_points_and_covers_it() -> None:
    rows, columns = np.mgrid[:900, :1200]
    mask = (columns - 500) ** 2 + 2 * (rows - 400) ** 2 < 300**2
    outlines = trace_outline(encode_mask(mask), 1200, 900)
    assert len(outlines) == 1
    assert len(outlines[0]) <= 160
    painted = paint(outlines, 1200, 900)
    assert (painted & mask).sum() / (painted | mask).sum() > 0.96


def test_the_largest_parts_are_kept_and_specks_are_not() -> None:
    mask = np.zeros((100, 100), np.bool_)
    mask[10:30, 10:30] = mask[60:90, 50:90] = True
    mask[0, 99] = True
    outlines = trace_outline(encode_mask(mask), 100, 100)
    assert [sorted(outline) for outline in outlines] == [
        sorted([0.5, 0.6, 0.9, 0.6, 0.9, 0.9, 0.5, 0.9]),
        sorted([0.1, 0.1, 0.3, 0.1, 0.3, 0.3, 0.1, 0.3]),
    ]
    speck = np.zeros((100, 100), np.bool_)
    speck[0, 99] = True
    assert len(trace_outline(encode_mask(speck), 100, 100)) == 1
    assert trace_outline(encode_mask(np.zeros((3, 4), np.bool_)), 4, 3) == []


@pytest.mark.parametrize("most", [4, 20])
def test_a_ring_has_at_most_so_many_points(most: int) -> None:
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 50
    simple = simplify_ring(ring, 0.1, most)
    assert 3 <= len(simple) <= most
    assert all(any((point == corner).all() for corner in ring) for point in simple)
