"""Exports of Label Studio: what people drew becomes objects, and what cannot be used is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvbatch.errors import UsageError
from cvbatch.storage.location import Location
from cvbatch.tasks.masks import decode_mask
from cvbatch.truth.label_studio import read_label_studio
from cvbatch.truth.label_studio_brush import decode_brush
from cvbatch.truth.labels import LabelTruth
from cvbatch.truth.objects import ObjectTruth

SIZE = {"original_width": 40, "original_height": 20}
SDK_BRUSH = [0, 0, 0, 24, 57, 27, 252, 96, 19, 255, 206, 1, 31, 248]
"""`label_studio_sdk.converter.brush.mask2rle` of the mask below, of 2 × 3 pixels."""
SDK_MASK = np.array([[0, 1, 1], [0, 0, 255]], np.uint8) > 0


def box(**value: Any) -> dict[str, Any]:
    return {"id": "b", "type": "rectanglelabels", "value": {"rectanglelabels": ["dog"], **value}, **SIZE}


def task(*results: dict[str, Any], image: str = "/data/local-files/?d=a%20b/1.jpg", **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": [{"result": list(results), **more}]}


def read(tmp_path: Path, *tasks: dict[str, Any]) -> Any:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    return read_label_studio(Location.from_uri(str(path)))


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("/data/local-files/?d=a%20b/1.jpg", "a b/1.jpg"),
        ("/data/upload/3/0123abcd-Gr%C3%B6%C3%9Fe.jpg", "Größe.jpg"),
        ("https://photos.example.org/1.jpg", "https://photos.example.org/1.jpg"),
        ("s3://photos/2024/1.jpg", "s3://photos/2024/1.jpg"),
    ],
)
def test_names_of_images(tmp_path: Path, image: str, name: str) -> None:
    truth = read(tmp_path, task(box(x=10, y=20, width=50, height=40), image=image))
    assert truth.image_names == [name]
    assert truth.boxes.tolist() == [[4, 4, 20, 8]]
    assert truth.sizes.tolist() == [[40, 20]]


def test_a_label_may_be_a_result_of_its_own_and_a_rotated_box_is_framed(tmp_path: Path) -> None:
    value = {"x": 50, "y": 10, "width": 25, "height": 20, "rotation": 90}
    parts = [{"id": "r", "type": "rectangle", "value": value, **SIZE}]
    parts += [{"id": "r", "type": "labels", "value": {**value, "labels": ["犬, groß"]}, **SIZE}]
    truth = read(tmp_path, task(*parts))
    assert truth.categories == ("犬, groß",)
    assert np.allclose(truth.boxes, [[16, 2, 4, 10]])


def test_masks_polygons_and_their_parts(tmp_path: Path) -> None:
    size = {"original_width": 3, "original_height": 2}
    brush = {"id": "m", "type": "brushlabels", "value": {"rle": SDK_BRUSH, "brushlabels": ["cat"]}, **size}
    corners = [[[0, 0], [50, 0], [50, 50], [0, 50]], [[50, 50], [100, 50], [100, 100], [50, 100]]]
    polygons = [
        {"id": name, "type": "polygonlabels", "value": {"points": points, "polygonlabels": ["dog"]}, **SIZE}
        for name, points in zip(("4", "4_1"), corners, strict=True)
    ]
    truth = read(tmp_path, task(brush), task(*polygons, image="2.jpg"))
    assert truth.boxes.tolist() == [[1, 0, 2, 2], [0, 0, 40, 20]]
    assert truth.areas.tolist() == [3, 400]
    mask, parts = truth.segmentations
    assert np.array_equal(decode_mask(mask["counts"].encode(), 2, 3), SDK_MASK)
    assert parts == [[0, 0, 20, 0, 20, 10, 0, 10], [20, 10, 40, 10, 40, 20, 20, 20]]


def test_the_newest_annotation_counts_and_the_rest_is_said(tmp_path: Path) -> None:
    old, new = (box(x=share, y=0, width=10, height=10) for share in (0, 50))
    tasks = task(old, updated_at="2026-01-01T00:00:00Z")
    tasks["annotations"] += [{"result": [new], "updated_at": "2026-01-02T00:00:00Z"}]
    tasks["annotations"] += [{"result": [], "updated_at": "2026-01-03T00:00:00Z", "was_cancelled": True}]
    waiting = {"id": 2, "data": {"image": "2.jpg"}, "predictions": [{"result": [old]}], "annotations": []}
    ellipse = {"id": "e", "type": "ellipselabels", "value": {"x": 1, "ellipselabels": ["dog"]}, **SIZE}
    truth = read(tmp_path, tasks, waiting, task(ellipse, image="3.jpg"), task(image="4.jpg"))
    assert isinstance(truth, ObjectTruth)
    assert truth.boxes[:, 0].tolist() == [20]
    assert truth.image_names == ["a b/1.jpg", "3.jpg", "4.jpg"]
    assert truth.notes == (
        "1 regions without a label, or of other kinds take no part",
        "1 tasks without an annotation take no part",
    )


def test_choices_are_classes(tmp_path: Path) -> None:
    choice = {"type": "choices", "value": {"choices": ["dog"]}}
    truth = read(tmp_path, task(choice), task(image="2.jpg"))
    assert isinstance(truth, LabelTruth)
    assert (truth.image_names, truth.labels.tolist()) == (["a b/1.jpg"], [0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "choose JSON, not JSON-MIN"),
        ('[{"image": "a.jpg", "label": []}]', "choose JSON, not JSON-MIN"),
        ("[", "which is no JSON"),
        (json.dumps([task(box(x="a", y=0, width=1, height=1))]), "task 1: expected a region"),
        (json.dumps([task({**box(), "value": {"rle": [0, 0], "brushlabels": ["a"]}})]), "expected a brush of 20 × 40"),
    ],
)
def test_other_files_are_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        read_label_studio(Location.from_uri(str(tmp_path / "export.json")))


def test_a_brush_of_the_sdk() -> None:
    assert np.array_equal(decode_brush(SDK_BRUSH, 2, 3), SDK_MASK)
    with pytest.raises(UsageError, match="ends early"):
        decode_brush(SDK_BRUSH[:-4], 2, 3)
