"""COCO files as pycocotools reads them: the same boxes, masks and points, and equal to themselves."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cvbatch.export.base import FormatOptions
from cvbatch.export.coco import CocoMasks
from cvbatch.export.exporting import export_predictions
from cvbatch.tasks.masks import decode_mask, encode_mask
from tests.export.runs import (
    BOXES,
    HEIGHT,
    MASKS,
    NAMES,
    POINTS,
    SEGMENTS,
    WIDTH,
    box_columns,
    make_run,
    mask_columns,
    random_mask,
    segment_columns,
)


def export(tmp_path: Path, output: str, **asked: Any) -> COCO:
    target = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
    export_predictions(output, "coco", str(target), **asked)
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(target)


def mask_of(read: COCO, annotation: dict[str, Any]) -> npt.NDArray[np.bool_]:
    counts = read.annToRLE(annotation)["counts"]
    return decode_mask(counts if isinstance(counts, bytes) else counts.encode(), HEIGHT, WIDTH)


def evaluate_against_itself(truth: COCO, kind: str) -> float:
    """Average precision of the annotations, taken as results with their scores."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(truth.dataset["annotations"]), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def some_boxes(seed: int, count: int) -> list[tuple[int, float, tuple[float, ...]]]:
    generator = np.random.default_rng(seed)
    corners = np.sort(generator.random((count, 2, 2)) * (WIDTH, HEIGHT), axis=1)
    corners[:, 1] += (1.3, 1.7)
    labels, scores = generator.choice([1, 3, 4, 5], count), generator.random(count)
    return [
        (int(label), float(score), tuple(box.ravel()))
        for label, score, box in zip(labels, scores, corners, strict=True)
    ]


def test_boxes_ids_and_names(tmp_path: Path) -> None:
    boxes = [some_boxes(0, 3), [], some_boxes(1, 5000), some_boxes(2, 1)]
    names = ["a, b.jpg", "Größe/犬.jpg", 'c"d.jpg', "e\\f.jpg"]
    read = export(tmp_path, make_run(tmp_path, (BOXES, box_columns(boxes)), names=names))
    ids = [annotation["id"] for annotation in read.dataset["annotations"]]
    assert ids == list(range(1, 5005)), "ids never repeat"
    assert {category["id"]: category["name"] for category in read.dataset["categories"]} == {
        label: name for label, name in enumerate(NAMES) if name is not None
    }
    assert [image["file_name"] for image in read.dataset["images"]] == names
    assert [len(read.getAnnIds(imgIds=[image])) for image in range(4)] == [3, 0, 5000, 1]
    for annotation, (label, score, box) in zip(
        read.dataset["annotations"], [box for image in boxes for box in image], strict=True
    ):
        x, y, width, height = annotation["bbox"]
        assert np.allclose([x, y, x + width, y + height], box, atol=1e-4)
        assert (annotation["category_id"], annotation["iscrowd"]) == (label, 0)
        assert annotation["score"] == pytest.approx(score)


def test_boxes_equal_themselves(tmp_path: Path) -> None:
    boxes = [some_boxes(seed, count) for seed, count in enumerate((4, 0, 40, 7))]
    read = export(tmp_path, make_run(tmp_path, (BOXES, box_columns(boxes))))
    assert evaluate_against_itself(read, "bbox") == 1


@pytest.mark.parametrize("form", ["rle", "polygons"])
def test_masks_are_the_same_masks(tmp_path: Path, form: str) -> None:
    masks = [[(label, 0.1 * label, random_mask(label + image)) for label in (1, 5)] for image in range(5)]
    output = make_run(tmp_path, (MASKS, mask_columns(masks)))
    read = export(tmp_path, output, options=FormatOptions(masks=form))
    expected = [mask for image in masks for _, _, mask in image]
    assert all(mask.any() for mask in expected)
    for annotation, mask in zip(read.dataset["annotations"], expected, strict=True):
        assert isinstance(annotation["segmentation"], list) == (form == "polygons")
        decoded = mask_of(read, annotation)
        assert np.array_equal(decoded, mask)
        assert annotation["area"] == mask.sum()
    assert evaluate_against_itself(read, "segm") == 1


@pytest.mark.parametrize("form", ["rle", "polygons"])
def test_a_mask_without_a_pixel_is_counted_and_read(tmp_path: Path, form: str) -> None:
    empty = np.zeros((HEIGHT, WIDTH), np.bool_)
    output = make_run(tmp_path, (MASKS, mask_columns([[(1, 0.5, empty), (1, 0.4, random_mask(0))]])))
    target = tmp_path / "labels.json"
    report = export_predictions(output, "coco", str(target), options=FormatOptions(masks=form))
    assert report.notes == {"with an empty mask": 1}
    with contextlib.redirect_stdout(io.StringIO()):
        read = COCO(target)
    assert [bool(mask_of(read, read.anns[number]).any()) for number in (1, 2)] == [False, True]


def test_segments_get_boxes(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[3:7, 10:30] = True
    read = export(tmp_path, make_run(tmp_path, (SEGMENTS, segment_columns([[(1, mask), (5, ~mask)], []]))))
    annotations = read.dataset["annotations"]
    assert [annotation["bbox"] for annotation in annotations] == [[10, 3, 20, 4], [0, 0, WIDTH, HEIGHT]]
    assert "score" not in annotations[0]
    assert np.array_equal(mask_of(read, annotations[1]), ~mask)


@pytest.mark.parametrize(("points", "first_name"), [(17, "nose"), (3, "point_1")])
def test_keypoints(tmp_path: Path, points: int, first_name: str) -> None:
    generator = np.random.default_rng(0)
    boxes = [some_boxes(0, 3), [], some_boxes(1, 1)]
    values = [[generator.normal(20, 30, points * 3).tolist() for _ in image] for image in boxes]
    columns = {**box_columns(boxes), "keypoints": values}
    read = export(tmp_path, make_run(tmp_path, (POINTS, columns)))
    written = np.array([annotation["keypoints"] for annotation in read.dataset["annotations"]]).reshape(-1, points, 3)
    expected = np.array([box for image in values for box in image]).reshape(-1, points, 3)
    assert np.allclose(written[..., :2], expected[..., :2], atol=1e-4)
    assert np.array_equal(written[..., 2], np.where(expected[..., 2] > 0, 2, 1))
    assert {annotation["num_keypoints"] for annotation in read.dataset["annotations"]} == {points}
    assert read.dataset["categories"][0]["keypoints"][0] == first_name
    if points == 17:
        assert evaluate_against_itself(read, "keypoints") == pytest.approx(1)


def test_sizes_are_those_of_the_upright_image(tmp_path: Path) -> None:
    output = make_run(tmp_path, (BOXES, box_columns([[], []])), sizes=[(30, 40), (4000, 3000)])
    read = export(tmp_path, output)
    assert [(image["width"], image["height"]) for image in read.dataset["images"]] == [(30, 40), (4000, 3000)]


def test_an_export_of_nothing_is_valid(tmp_path: Path) -> None:
    output = make_run(tmp_path, (MASKS, mask_columns([None])), failed=[0])
    export_predictions(output, "coco", str(tmp_path / "labels.json"))
    read = json.loads((tmp_path / "labels.json").read_text())
    assert (read["images"], read["annotations"]) == ([], [])


def test_areas_of_more_masks_than_a_byte_counts() -> None:
    masks = CocoMasks(pa.array([encode_mask(np.ones((3, 4), np.bool_))] * 300), np.full((300, 2), (4, 3)))
    assert (masks.areas().tolist(), masks.empty) == ([12] * 300, 0)
