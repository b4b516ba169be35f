"""Boxes and masks as supervision's own objects."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from cvbatch import to_supervision
from tests.export.runs import (
    MASKS,
    NAMES,
    POINTS,
    SEGMENTS,
    box_columns,
    frame_mask,
    make_run,
    mask_columns,
    random_mask,
    segment_columns,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says which version of OpenCV it would rather have
    supervision = pytest.importorskip("supervision")


def test_boxes_masks_and_classes(tmp_path: Path) -> None:
    mask = random_mask(1)
    output = make_run(tmp_path, (MASKS, mask_columns([[(3, 0.5, mask), (5, 0.25, mask)], [], None])), failed=[2])
    (first_uri, first), (_, second) = to_supervision(output, min_score=0.1)
    assert first_uri.endswith("photos/0.jpg")
    assert isinstance(first, supervision.Detections)
    assert first.xyxy.tolist() == [list(frame_mask(mask))] * 2
    assert (first.class_id.tolist(), first.confidence.tolist()) == ([3, 5], [0.5, 0.25])
    assert np.array_equal(first.mask, np.stack([mask, mask]))
    assert first.data["class_name"].tolist() == [NAMES[3], NAMES[5]]
    assert len(second) == 0
    assert len(first[first.confidence > 0.3]) == 1


def test_segments_have_the_boxes_of_their_masks(tmp_path: Path) -> None:
    mask = random_mask(2)
    output = make_run(tmp_path, (SEGMENTS, segment_columns([[(5, mask)], []])))
    (_, found), (_, nothing) = to_supervision(output)
    assert found.xyxy.tolist() == [list(frame_mask(mask))]
    assert len(nothing) == 0


def test_keypoints_are_data(tmp_path: Path) -> None:
    columns = {**box_columns([[(1, 0.5, (1, 2, 3, 4))], []]), "keypoints": [[[1, 2, 0.5, 3, 4, 0.25]], []]}
    (_, found), (_, nothing) = to_supervision(make_run(tmp_path, (POINTS, columns)))
    assert found.data["keypoints"].tolist() == [[[1, 2, 0.5], [3, 4, 0.25]]]
    assert len(nothing) == 0
