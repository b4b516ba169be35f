"""COCO's and LVIS's files are read; what is wrong with them is said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvbatch.errors import UsageError
from cvbatch.models.catalog import category_set
from cvbatch.storage.location import Location
from cvbatch.truth.base import read_truth
from cvbatch.truth.coco_json import COCO_READER, read_coco_json
from cvbatch.truth.objects import ObjectTruth

NAMES = [name for name in category_set("coco-91") if name]


def read(folder: Path, content: Any) -> ObjectTruth:
    path = folder / "truth.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return read_coco_json(Location.from_uri(str(path)))


def file(**changes: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 5, "file_name": "a.jpg", "width": 9, "height": 8}, {"id": 3, "file_name": "b.jpg"}],
        "annotations": [
            {"image_id": 3, "category_id": 7, "bbox": [0, 1, 2, 3], "area": 4.5, "iscrowd": 1},
            {"image_id": 5, "category_id": 2, "bbox": [1, 1, 1, 1], "area": 1},
        ],
        "categories": [{"id": 7, "name": "x"}, {"id": 2, "name": "y"}],
        **changes,
    }


def test_columns(tmp_path: Path) -> None:
    truth = read(tmp_path, file())
    assert (truth.image_names, truth.categories, truth.notes) == (["a.jpg", "b.jpg"], ("x", "y"), ())
    assert truth.sizes is not None
    assert truth.areas is not None
    assert truth.sizes.tolist() == [[9, 8], [0, 0]]
    assert (truth.image_indices.tolist(), truth.labels.tolist()) == ([1, 0], [0, 1])
    assert (truth.boxes.tolist(), truth.areas.tolist()) == ([[0, 1, 2, 3], [1, 1, 1, 1]], [4.5, 1])
    assert truth.is_crowd.tolist() == [True, False]
    assert (truth.segmentations, truth.keypoints, truth.image_facts) == (None, None, None)
    assert truth.label_counts == [1, 1]


def test_masks_and_keypoints_that_some_have(tmp_path: Path) -> None:
    annotations = file()["annotations"]
    annotations[1] |= {"segmentation": [[0, 0, 1, 0, 1, 1]], "keypoints": [1, 2, 2, 3, 4, 0]}
    truth = read(tmp_path, file(annotations=annotations))
    assert truth.segmentations == [None, [[0, 0, 1, 0, 1, 1]]]
    assert truth.keypoints is not None
    assert truth.keypoints.tolist() == [[[0, 0, 0], [0, 0, 0]], [[1, 2, 2], [3, 4, 0]]]


def test_annotations_of_unlisted_images_are_counted(tmp_path: Path) -> None:
    annotations = [*file()["annotations"], {"image_id": 4, "category_id": 7, "bbox": [0, 0, 1, 1]}]
    truth = read(tmp_path, file(annotations=annotations))
    assert len(truth.labels) == 2
    assert truth.notes == ("annotations of images that the file does not list: 1; they take no part",)


@pytest.mark.parametrize(
    ("ids", "numbering"),
    [
        ([index for index, name in enumerate(category_set("coco-91")) if name], "91 numbering (1 to 90 with gaps)"),
        (list(range(80)), "80 numbering (0 to 79 without gaps)"),
        (list(range(1, 81)), "80 numbering (1 to 80 without gaps)"),
        (list(range(100, 180)), None),
    ],
)
def test_numberings_of_coco_are_recognised(tmp_path: Path, ids: list[int], numbering: str | None) -> None:
    categories = [{"id": number, "name": name} for number, name in zip(ids, NAMES, strict=True)]
    notes = read(tmp_path, file(categories=categories, annotations=[])).notes
    assert notes == ((f"the categories have COCO's {numbering}; they are compared by name",) if numbering else ())


def test_annotations_in_the_other_numbering_are_recognised(tmp_path: Path) -> None:
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(NAMES)]
    annotations = [{"image_id": 3, "category_id": 90, "bbox": [0, 0, 1, 1]}]
    with pytest.raises(UsageError, match="got 90; the annotations seem to have COCO's 91 numbering and"):
        read(tmp_path, file(categories=categories, annotations=annotations))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", r"expected COCO JSON: .*; got '<html>', which is no JSON"),
        ({"images": []}, "expected COCO JSON: .*; got the keys images"),
        (file(categories=["x"]), "expected COCO JSON"),
        (file(images=[]), "expected COCO JSON with images, got none"),
        (file(images=[{"id": 5}]), "images: expected 'file_name' in each, got {'id': 5}"),
        (file(images=[{"id": 5, "file_name": "a"}] * 2), "expected each image once, got 'a' twice"),
        (file(categories=[{"id": 7}]), "categories: expected 'name' in each, got {'id': 7}"),
        (file(categories=[{"id": 7, "name": "x"}]), r"a category_id that the categories have \(7 to 7\), got 2"),
        (file(annotations=[{"image_id": 3, "category_id": 7}]), "annotations: expected 'bbox' in each"),
        (file(annotations=[{"image_id": 3, "category_id": 7, "bbox": [1, 2]}]), "expected 4 numbers as 'bbox'"),
        (file(annotations=[{"image_id": 3, "category_id": 7, "bbox": [1, 2, 3, None]}]), "4 numbers as 'bbox'"),
        (file(annotations=[{"image_id": "q", "category_id": 7}]), "expected a number as 'image_id', got"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        read(tmp_path, content)
    assert "\n" not in str(error.value)


def test_a_path_that_is_no_truth_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected truth as one of COCO JSON \(instances.json\)"):
        read_truth(Location.from_uri(str(tmp_path)), [COCO_READER])
    with pytest.raises(UsageError, match=r"expected a file with truth; No such file"):
        read_truth(Location.from_uri(str(tmp_path / "none.json")), [COCO_READER])
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UsageError, match="expected truth as one of"):
        read_truth(Location.from_uri(str(tmp_path / "list.json")), [COCO_READER])


def test_lvis_has_its_facts(tmp_path: Path) -> None:
    images = [
        {"id": 5, "coco_url": "http://x/a.jpg", "neg_category_ids": [2], "not_exhaustive_category_ids": [7, 2]},
        {"id": 3, "coco_url": "http://x/b.jpg", "neg_category_ids": [], "not_exhaustive_category_ids": []},
    ]
    categories = [{"id": 7, "name": "x", "frequency": "r"}, {"id": 2, "name": "y", "frequency": "f"}]
    truth = read(tmp_path, file(images=images, categories=categories))
    assert (truth.layout, truth.frequencies) == ("LVIS JSON", ["r", "f"])
    assert truth.image_facts is not None
    assert truth.image_facts[0] == {"neg_category_ids": [1], "not_exhaustive_category_ids": [0, 1]}


def test_relative_coordinates_become_pixels(tmp_path: Path) -> None:
    truth = ObjectTruth(
        source="t",
        layout="YOLO",
        image_names=["a", "b"],
        categories=("x",),
        image_indices=np.array([1]),
        labels=np.array([0]),
        boxes=np.array([[0.1, 0.2, 0.5, 0.5]]),
        is_crowd=np.array([False]),
        segmentations=[[[0.5, 0.5, 1, 1]]],
        keypoints=np.array([[[0.5, 0.5, 2]]]),
        is_relative=True,
    ).in_pixels(np.array([[1, 1], [100, 10]], np.int32))
    assert truth.boxes.tolist() == [[10, 2, 50, 5]]
    assert truth.segmentations == [[[50, 5, 100, 10]]]
    assert truth.keypoints is not None
    assert truth.keypoints.tolist() == [[[50, 5, 2]]]
    assert not truth.is_relative
