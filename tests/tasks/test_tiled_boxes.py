"""Boxes of tiles become the boxes of the picture, as a detector without mistakes would give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from cvbatch.images.tiles import Tiles, Window, cut_windows
from cvbatch.inference.torch.suppression import suppress_overlaps
from cvbatch.tasks.detection import BoxAnswer
from cvbatch.tasks.masks import encode_mask
from cvbatch.tasks.tiled_boxes import BoxMerger
from tests.samples import spec

TILES = Tiles(size=100, overlap=0.3)
SIZE = (260, 180)
SMALL = [(10, 10, 35, 30), (60, 60, 85, 85), (150, 20, 170, 45), (200, 130, 229, 160), (85, 5, 110, 30)]
"""x_min, y_min, x_max, y_max of objects that some tile has as a whole."""


def mask_of(box: Sequence[float], window: Window) -> bytes:
    mask = np.zeros((window.height, window.width), np.bool_)
    x_min, y_min, x_max, y_max = (round(value) for value in box)
    mask[y_min:y_max, x_min:x_max] = True
    return encode_mask(mask)


def seen(window: Window, objects: Sequence[Sequence[int]], scores: Sequence[float], labels: Sequence[int]) -> BoxAnswer:
    """What a detector sees of objects in a tile: all but slivers."""
    top, left, height, width = window
    boxes, kept = [], []
    for position, box in enumerate(objects):
        shifted = np.array(box) - [left, top, left, top]
        cut = np.clip(shifted, 0, [width, height, width, height])
        if (cut[2:] - cut[:2]).min() >= 5:
            boxes.append(cut)
            kept.append(position)
    array = np.array(boxes, np.float32).reshape(-1, 4)
    centres = (array[:, :2] + array[:, 2:]) / 2
    points = np.concatenate([centres, np.ones((len(array), 1))], axis=1)[:, None].astype(np.float32)
    return BoxAnswer(
        boxes=array,
        label_ids=np.array([labels[position] for position in kept], np.int64),
        scores=np.array([scores[position] for position in kept], np.float32),
        masks=[mask_of(box, window) for box in boxes],
        keypoints=points,
    )


def merged(
    objects: Sequence[Sequence[int]], tiles: Tiles = TILES, size: tuple[int, int] = SIZE, **options: Any
) -> BoxAnswer:
    scores = options.get("scores", np.linspace(0.9, 0.5, len(objects)))
    labels = options.get("labels", [0] * len(objects))
    model = spec("detection", "detection", masks=True, keypoints=True)
    merger = BoxMerger(model, tiles, size, suppress_overlaps)
    for window in cut_windows(tiles, size):
        merger.add_tile(window, seen(window, objects, scores, labels))
    return merger.join_tiles()


@pytest.mark.parametrize("merge", ["nms", "wbf"])
def test_objects_that_fit_into_overlaps_are_those_of_the_picture(merge: Any) -> None:
    answer = merged(SMALL, Tiles(size=100, overlap=0.3, merge=merge))
    np.testing.assert_allclose(answer.boxes, SMALL, atol=1e-3)
    np.testing.assert_allclose(answer.scores, np.linspace(0.9, 0.5, len(SMALL)), atol=1e-6)
    whole = Window(0, 0, SIZE[1], SIZE[0])
    assert list(answer.masks) == [mask_of(box, whole) for box in SMALL]
    assert answer.keypoints is not None
    np.testing.assert_allclose(answer.keypoints[:, 0, :2], [((a + c) / 2, (b + d) / 2) for a, b, c, d in SMALL])


@pytest.mark.parametrize(
    "large", [(20, 40, 240, 70), (40, 10, 70, 170), (30, 20, 230, 160)], ids=["wide", "high", "both"]
)
def test_parts_of_large_objects_are_joined(large: tuple[int, ...]) -> None:
    answer = merged([large])
    np.testing.assert_allclose(answer.boxes, [large], atol=1e-3)
    assert list(answer.masks) == [mask_of(large, Window(0, 0, SIZE[1], SIZE[0]))]


def test_whole_picture_replaces_the_parts() -> None:
    large = (20, 40, 240, 70)
    answer = merged([large, (60, 80, 85, 99)], Tiles(size=100, overlap=0.3, whole=True))
    np.testing.assert_allclose(answer.boxes, [large, (60, 80, 85, 99)], atol=1e-3)


def test_neighbours_of_one_class_and_objects_of_others_stay_apart() -> None:
    side_by_side = [(20, 20, 55, 60), (56, 20, 95, 60), (20, 20, 55, 60)]
    answer = merged(side_by_side, labels=[0, 0, 2])
    assert len(answer.boxes) == 3


def test_weak_boxes_are_no_evidence() -> None:
    objects = [(65, 20, 130, 80), (75, 15, 105, 85)]
    answer = merged(objects, scores=[0.9, 0.05])
    assert answer.scores[0] == np.float32(0.9)
    np.testing.assert_allclose(answer.boxes[0], objects[0], atol=1e-3)


def test_one_tile_is_the_answer_itself() -> None:
    window = Window(0, 0, 90, 90)
    answer = seen(window, SMALL[:2], [0.2, 0.9], [0, 0])
    merger = BoxMerger(spec("detection", "detection"), TILES, (90, 90), suppress_overlaps)
    merger.add_tile(window, answer)
    assert merger.join_tiles() is answer


def test_tiles_without_boxes_have_none() -> None:
    answer = merged([])
    assert answer.boxes.shape == (0, 4)
    assert len(answer.scores) == len(answer.masks) == 0


def test_wbf_averages_by_scores_and_nms_takes_the_best() -> None:
    windows = [Window(0, 0, 100, 100), Window(0, 60, 100, 100)]
    for merge, expected in (("nms", [70, 20, 90, 40]), ("wbf", [70.8, 20, 90.8, 40])):
        tiles = Tiles(size=100, overlap=0.4, merge=merge)  # type: ignore[arg-type]
        merger = BoxMerger(spec("detection", "detection"), tiles, (160, 100), suppress_overlaps)
        for window, x, score in zip(windows, (70, 72), (0.6, 0.4), strict=True):
            box = np.array([[x - window.left, 20, x + 20 - window.left, 40]], np.float32)
            merger.add_tile(window, BoxAnswer(boxes=box, label_ids=np.zeros(1, int), scores=np.array([score])))
        answer = merger.join_tiles()
        np.testing.assert_allclose(answer.boxes, [expected], atol=1e-3)
        np.testing.assert_allclose(answer.scores, [0.6])
