"""Edges are counted from the encoding as they are in the pixels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cvbatch.sampling.mask_edges import edge_shares
from cvbatch.tasks.masks import encode_mask


def test_edges_are_changes_down_the_columns() -> None:
    random = np.random.default_rng(0)
    masks = [random.random((9, 14)) < share for share in (0.1, 0.5, 0.9)]
    for mask in masks:
        mask[0] = mask[-1] = False  # so that no run goes on in the next column
    encoded = pa.array([encode_mask(mask) for mask in [*masks, np.zeros((9, 14), bool)]]).slice(1)
    rows = pa.table({"width": [14, 28], "height": [9, 9]})
    shares = edge_shares(encoded, np.array([0, 1, 1]), rows)
    expected = [np.diff(mask.astype(int), axis=0).astype(bool).sum() / 126 for mask in masks[1:]]
    assert shares == pytest.approx([expected[0], expected[1] / 2, 0])
    assert len(edge_shares(encoded.slice(0, 0), np.array([], int), rows)) == 0
