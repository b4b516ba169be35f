"""Pascal VOC files as supervision reads them."""

from __future__ import annotations

import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from cvbatch.export.exporting import export_predictions
from tests.export.runs import BOXES, HEIGHT, NAMES, WIDTH, box_columns, make_run


def test_boxes_as_supervision_reads_them(tmp_path: Path) -> None:
    boxes = [[(1, 0.9, (1.5, 2.25, 11.5, 22)), (4, 0.8, (0, 0, WIDTH, HEIGHT))], [], [(3, 0.5, (3, 4, 5, 8))] * 2000]
    output = make_run(tmp_path, (BOXES, box_columns(boxes)), names=["a & b.jpg", "Größe.jpg", "c.jpg"])
    photos = tmp_path / "images"
    photos.mkdir()
    for name in ("a & b", "Größe", "c"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(photos / f"{name}.jpg")
    export_predictions(output, "voc", str(tmp_path / "voc"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has no OpenCV
        import supervision

        dataset = supervision.DetectionDataset.from_pascal_voc(str(photos), str(tmp_path / "voc" / "Annotations"))
        found = {Path(path).stem: detections for path, _, detections in dataset}
    for name, expected in zip(("a & b", "Größe", "c"), boxes, strict=True):
        assert [dataset.classes[number] for number in found[name].class_id] == [
            NAMES[label] for label, _, _ in expected
        ]
        assert np.allclose(found[name].xyxy.reshape(-1, 4), np.array([box for _, _, box in expected]).reshape(-1, 4))


def test_the_size_and_the_first_and_last_pixel(tmp_path: Path) -> None:
    output = make_run(tmp_path, (BOXES, box_columns([[(1, 0.9, (0, 0, 30, 40))]])), sizes=[(30, 40)])
    export_predictions(output, "voc", str(tmp_path / "voc"))
    root = ElementTree.parse(tmp_path / "voc" / "Annotations" / "0.xml").getroot()
    assert root.findtext("filename") == "0.jpg"
    assert [root.findtext(f"size/{name}") for name in ("width", "height", "depth")] == ["30", "40", "3"]
    box = root.find("object/bndbox")
    assert box is not None
    assert [element.text for element in box] == ["1", "1", "30", "40"]
