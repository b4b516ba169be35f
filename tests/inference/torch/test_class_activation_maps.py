"""Regions of class maps with known shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvbatch.inference.torch import class_activation_maps
from cvbatch.tasks.masks import decode_mask

SIZE = (360, 240)  # 20 pixels for each position of a map of 12 × 18
EMITTED = range(10)


def maps(*blobs: tuple[int, slice, slice, float]) -> torch.Tensor:
    """Logits of 10 classes that are high in some rectangles."""
    logits = torch.full((10, 12, 18), -2.0)
    for label, rows, columns, value in blobs:
        logits[label, rows, columns] = value
    return logits


def test_one_object() -> None:
    regions = class_activation_maps.find_regions(maps((3, slice(3, 10), slice(5, 12), 12.0)), EMITTED)
    found = class_activation_maps.regions_to_boxes(regions, SIZE)
    assert found.label_ids.tolist() == [3]
    np.testing.assert_allclose(found.boxes, [[100, 60, 240, 200]], atol=15)
    assert found.scores[0] > 0.9
    segments = class_activation_maps.regions_to_segments(regions, SIZE)
    assert segments.label_ids.tolist() == [3]
    mask = decode_mask(segments.masks[0], 240, 360)
    assert mask.mean() == pytest.approx(segments.areas[0])
    assert mask[80:180, 120:220].all()
    assert not mask[:40].any()


def test_two_objects_of_one_class_are_two_boxes_and_one_segment() -> None:
    logits = maps((3, slice(2, 10), slice(0, 6), 12.0), (3, slice(2, 10), slice(12, 18), 12.0))
    regions = class_activation_maps.find_regions(logits, EMITTED)
    assert class_activation_maps.regions_to_boxes(regions, SIZE).label_ids.tolist() == [3, 3]
    assert class_activation_maps.regions_to_segments(regions, SIZE).label_ids.tolist() == [3]


def test_two_classes_side_by_side_share_the_pixels_out() -> None:
    logits = maps((3, slice(2, 10), slice(0, 8), 12.0), (7, slice(2, 10), slice(9, 18), 12.0))
    segments = class_activation_maps.regions_to_segments(class_activation_maps.find_regions(logits, EMITTED), SIZE)
    assert segments.label_ids.tolist() == [3, 7]
    masks = [decode_mask(counts, 240, 360) for counts in segments.masks]
    assert not (masks[0] & masks[1]).any()


def test_of_two_classes_in_one_place_the_better_is_kept() -> None:
    logits = maps((3, slice(2, 10), slice(5, 13), 12.0), (7, slice(2, 10), slice(5, 13), 12.4))
    assert class_activation_maps.regions_to_boxes(
        class_activation_maps.find_regions(logits, EMITTED), SIZE
    ).label_ids.tolist() == [7]


@pytest.mark.parametrize("logits", [torch.zeros(10, 12, 18), maps((3, slice(0, 1), slice(0, 1), 5.0))])
def test_nothing_certain_is_nothing(logits: torch.Tensor) -> None:
    regions = class_activation_maps.find_regions(logits, EMITTED)
    assert class_activation_maps.regions_to_boxes(regions, SIZE).boxes.shape == (0, 4)
    assert class_activation_maps.regions_to_segments(regions, SIZE).label_ids.tolist() == []


def test_threshold_and_names_are_heeded() -> None:
    logits = maps((3, slice(3, 10), slice(5, 12), 3.0))
    (region,) = class_activation_maps.find_regions(logits, EMITTED)
    assert class_activation_maps.find_regions(logits, EMITTED, region.score + 0.01) == []
    assert class_activation_maps.find_regions(logits, [None] * 10) == []


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (12, 7)])
def test_maps_smaller_than_a_window(shape: tuple[int, int]) -> None:
    logits = torch.full((10, *shape), -2.0)
    logits[4] = 6
    found = class_activation_maps.regions_to_boxes(class_activation_maps.find_regions(logits, EMITTED), SIZE)
    np.testing.assert_allclose(found.boxes, [[0, 0, *SIZE]])
