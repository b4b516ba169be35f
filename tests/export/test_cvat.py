"""CVAT files: the elements and attributes that its importer reads, and masks as its own SDK decodes them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from cvat_sdk.masks import decode_mask

from cvbatch.export.base import FormatOptions
from cvbatch.export.exporting import export_predictions
from tests.export.runs import (
    BOXES,
    HEIGHT,
    LABELS,
    MASKS,
    NAMES,
    POINTS,
    WIDTH,
    box_columns,
    make_run,
    mask_columns,
    random_mask,
)
from tests.export.test_polygons import fill


def export(tmp_path: Path, output: str, options: FormatOptions | None = None) -> list[ElementTree.Element]:
    """Roots of the files in their order."""
    export_predictions(output, "cvat", str(tmp_path / "cvat"), options=options)
    return [ElementTree.parse(path).getroot() for path in sorted((tmp_path / "cvat").iterdir())]


def test_boxes_in_several_files(tmp_path: Path) -> None:
    boxes = [[(1, 0.9, (1.5, 2.25, 11.5, 22)), (4, 0.8, (0, 0, 3, 4))], [], [(3, 0.5, (3, 4, 5, 8))] * 3000, []]
    names = ["a & b.jpg", "Größe/犬.jpg", 'c".jpg', "d.jpg"]
    output = make_run(tmp_path, (BOXES, box_columns(boxes)), names=names, sizes=[(40, 30), (30, 40), (40, 30), (9, 9)])
    roots = export(tmp_path, output, FormatOptions(images_per_file=3))
    images = [image for root in roots for image in root.iter("image")]
    assert [[image.get("id") for image in root.iter("image")] for root in roots] == [["0", "1", "2"], ["0"]]
    assert [image.get("name") for image in images] == names
    assert [(image.get("width"), image.get("height")) for image in images[:2]] == [("40", "30"), ("30", "40")]
    for image, expected in zip(images, boxes, strict=True):
        edges = [[float(box.get(edge, "")) for edge in ("xtl", "ytl", "xbr", "ybr")] for box in image.iter("box")]
        assert edges == [list(box) for _, _, box in expected]
        assert [box.get("label") for box in image.iter("box")] == [NAMES[label] for label, _, _ in expected]
        assert all(box.get("occluded") == "0" for box in image.iter("box"))
    for root in roots:
        assert root.findtext("version") == "1.1"
        known = [label.findtext("name") for label in root.iter("label")]
        assert known == [name for name in NAMES if name is not None]


def test_masks_as_the_sdk_decodes_them(tmp_path: Path) -> None:
    masks = [random_mask(seed) for seed in range(4)]
    masks[1][0, 0] = masks[1][-1, -1] = True
    output = make_run(tmp_path, (MASKS, mask_columns([[(1, 0.9, mask) for mask in masks]])))
    (root,) = export(tmp_path, output)
    for element, mask in zip(root.iter("mask"), masks, strict=True):
        left, top, width, height = (int(element.get(name, "")) for name in ("left", "top", "width", "height"))
        runs = [int(run) for run in element.get("rle", "").split(",")]
        points = [*runs, left, top, left + width - 1, top + height - 1]
        assert np.array_equal(decode_mask(points, image_width=WIDTH, image_height=HEIGHT), mask)


def test_polygons_of_one_object_have_one_group_and_its_pixels(tmp_path: Path) -> None:
    masks = [random_mask(seed) for seed in range(3)]
    output = make_run(tmp_path, (MASKS, mask_columns([[(5, 0.9, mask) for mask in masks]])))
    (root,) = export(tmp_path, output, FormatOptions(masks="polygons"))
    for group, mask in enumerate(masks, 1):
        texts = [part.get("points", "") for part in root.iter("polygon") if part.get("group_id") == str(group)]
        polygons = [np.array([point.split(",") for point in text.split(";")], np.float64) for text in texts]
        assert np.array_equal(fill(polygons, HEIGHT, WIDTH), mask)


def test_empty_masks_are_counted(tmp_path: Path) -> None:
    empty = np.zeros((HEIGHT, WIDTH), np.bool_)
    output = make_run(tmp_path, (MASKS, mask_columns([[(1, 0.9, empty), (1, 0.8, ~empty)]])))
    report = export_predictions(output, "cvat", str(tmp_path / "cvat"))
    assert report.notes == {"left out: empty mask": 1}
    assert (tmp_path / "cvat" / "annotations-00000.xml").read_text().count("<mask ") == 1


def test_keypoints_share_the_group_of_their_box(tmp_path: Path) -> None:
    boxes = [[(1, 0.9, (1, 2, 11, 22)), (1, 0.8, (0, 0, 3, 4))], [(1, 0.7, (1, 1, 2, 2))]]
    points = [[[1, 2, 0.5, 3.25, 4, -1], [5, 6, 1, 7, 8, 1]], [[9, 10, 1, 11, 12, 1]]]
    (root,) = export(tmp_path, make_run(tmp_path, (POINTS, {**box_columns(boxes), "keypoints": points})))
    shown = [(part.get("points"), part.get("group_id")) for part in root.iter("points")]
    assert shown == [("1,2;3.25,4", "1"), ("5,6;7,8", "2"), ("9,10;11,12", "1")]
    assert [box.get("group_id") for box in root.iter("box")] == ["1", "2", "1"]


@pytest.mark.parametrize(("least", "labels"), [(None, ["dog", "cat"]), (0.5, ["dog"])])
def test_classes_are_tags(tmp_path: Path, least: float | None, labels: list[str]) -> None:
    columns = {"label": ["dog", "cat"], "label_id": [1, 5], "score": [0.9, 0.4]}
    output = make_run(tmp_path, (LABELS, columns))
    export_predictions(output, "cvat", str(tmp_path / "cvat"), min_score=least)
    root = ElementTree.parse(tmp_path / "cvat" / "annotations-00000.xml").getroot()
    assert [tag.get("label") for tag in root.iter("tag")] == labels
    assert len(list(root.iter("image"))) == 2
