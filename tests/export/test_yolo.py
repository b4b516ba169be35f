"""YOLO folders as supervision reads them, and polygons that cover exactly the pixels of their masks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco

from cvbatch.errors import UsageError
from cvbatch.export.base import FormatOptions
from cvbatch.export.exporting import export_predictions
from cvbatch.tasks.masks import decode_mask
from tests.export.runs import (
    BOXES,
    HEIGHT,
    MASKS,
    NAMES,
    WIDTH,
    box_columns,
    make_run,
    mask_columns,
    random_mask,
)

CLASSES = [name for name in NAMES if name is not None]


def add_photos(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(path)


def read(folder: Path, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has no OpenCV
        import supervision

        return supervision.DetectionDataset.from_yolo(
            str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"), **options
        )


def test_boxes_as_supervision_reads_them(tmp_path: Path) -> None:
    boxes = [[(1, 0.9, (1.5, 2.25, 11.5, 22)), (5, 0.8, (0, 0, WIDTH, HEIGHT))], [], [(3, 0.5, (3, 4, 5.125, 8))]]
    names = ["a, b.jpg", "Größe.jpg", "c.png"]
    output = make_run(tmp_path, (BOXES, box_columns(boxes)), names=names)
    add_photos(tmp_path, names)
    folder = tmp_path / "yolo"
    report = export_predictions(output, "yolo", str(folder))
    assert sum(report.notes.values()) == 0
    assert (folder / "labels" / "Größe.txt").read_bytes() == b""
    dataset = read(folder)
    assert dataset.classes == CLASSES
    found = {Path(path).name: detections for path, _, detections in dataset}
    for name, expected in zip(names, boxes, strict=True):
        assert [CLASSES[number] for number in found[name].class_id] == [NAMES[label] for label, _, _ in expected]
        assert np.allclose(found[name].xyxy.reshape(-1, 4), np.array([box for _, _, box in expected]).reshape(-1, 4))


def test_names_that_would_share_a_file_and_folders(tmp_path: Path) -> None:
    names = ["x/a.jpg", "x/a.png", "y/a.jpg"]
    output = make_run(tmp_path, (BOXES, box_columns([[], [], []])), names=names)
    add_photos(tmp_path, ["x/a.png"])
    report = export_predictions(output, "yolo", str(tmp_path / "yolo"))
    labels = sorted(path.relative_to(tmp_path / "yolo") for path in (tmp_path / "yolo" / "labels").rglob("*.txt"))
    assert [str(path) for path in labels] == ["labels/x/a-0.txt", "labels/x/a-1.txt", "labels/y/a.txt"]
    assert report.notes["without a link to the image"] == 2
    assert (tmp_path / "yolo" / "images" / "x" / "a-1.png").resolve() == tmp_path / "photos" / "x" / "a.png"


def test_boxes_are_clipped_because_yolo_refuses_what_lies_outside(tmp_path: Path) -> None:
    boxes = [[(1, 0.9, (-5, -5, WIDTH + 5, 10)), (1, 0.8, (WIDTH + 1, 0, WIDTH + 9, 5)), (1, 0.7, (-9, 20, 5, 99))]]
    output = make_run(tmp_path, (BOXES, box_columns(boxes)))
    report = export_predictions(output, "yolo", str(tmp_path / "yolo"))
    lines = (tmp_path / "yolo" / "labels" / "0.txt").read_text().splitlines()
    assert report.notes["left out: outside the image"] == 1
    numbers = np.array([line.split()[1:] for line in lines], np.float64)
    assert np.allclose(numbers[0], [0.5, 1 / 6, 1, 1 / 3])
    assert ((numbers >= 0) & (numbers <= 1)).all()


def fill(line: str) -> npt.NDArray[np.bool_]:
    """What a polygon covers, by COCO's rasteriser."""
    points = np.array(line.split()[1:], np.float64).reshape(-1, 2) * (WIDTH, HEIGHT)
    encoded = coco.frPyObjects([points.ravel().tolist()], HEIGHT, WIDTH)
    return decode_mask(encoded[0]["counts"], HEIGHT, WIDTH)


def test_masks_of_many_parts_are_one_polygon_each_with_the_same_pixels(tmp_path: Path) -> None:
    masks = [random_mask(seed) for seed in range(6)]
    empty = np.zeros((HEIGHT, WIDTH), np.bool_)
    columns = mask_columns([[(1, 0.9, mask) for mask in (*masks, empty)], []])
    output = make_run(tmp_path, (MASKS, columns))
    add_photos(tmp_path, ["0.jpg", "1.jpg"])
    report = export_predictions(output, "yolo", str(tmp_path / "yolo"))
    assert report.notes["left out: empty mask"] == 1
    lines = (tmp_path / "yolo" / "labels" / "0.txt").read_text().splitlines()
    for line, mask in zip(lines, masks, strict=True):
        assert np.array_equal(fill(line), mask)
    # supervision paints the pixels that a polygon touches, too, so its masks are never short of one
    found = next(detections for path, _, detections in read(tmp_path / "yolo", force_masks=True) if "0" in path)
    assert not (np.array(masks) & ~found.mask).any()


def test_boxes_of_a_model_with_masks(tmp_path: Path) -> None:
    output = make_run(tmp_path, (MASKS, mask_columns([[(1, 0.9, random_mask(0))]])))
    export_predictions(output, "yolo", str(tmp_path / "yolo"), options=FormatOptions(masks="none"))
    assert len((tmp_path / "yolo" / "labels" / "0.txt").read_text().split()) == 5
    with pytest.raises(UsageError, match="has no rle"):
        export_predictions(output, "yolo", str(tmp_path / "other"), options=FormatOptions(masks="rle"))


def test_the_description_has_all_classes(tmp_path: Path) -> None:
    export_predictions(make_run(tmp_path, (BOXES, box_columns([[]]))), "yolo", str(tmp_path / "yolo"))
    description = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text())
    assert description["names"] == dict(enumerate(CLASSES))
    assert (description["train"], description["nc"]) == ("images", len(CLASSES))
    assert "path" not in description, "Ultralytics would take it from the current folder"
