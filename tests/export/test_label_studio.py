"""Label Studio's tasks: places in percent, brushes in its own encoding, and an interface that has all of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest

from cvbatch.export.base import FormatOptions
from cvbatch.export.exporting import export_predictions
from cvbatch.export.label_studio_runs import encode_brush
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


def export(tmp_path: Path, output: str, options: FormatOptions | None = None) -> list[dict[str, Any]]:
    export_predictions(output, "label-studio", str(tmp_path / "tasks"), options=options)
    files = sorted((tmp_path / "tasks").glob("tasks-*.json"))
    return [task for file in files for task in json.loads(file.read_text())]


def decode(rle: list[int]) -> npt.NDArray[np.uint8]:
    """The values of `@thi.ng/rle-pack`, bit by bit as its `decode` reads them."""
    bits, position, values = "".join(f"{byte:08b}" for byte in rle), 0, list[int]()

    def take(count: int) -> int:
        nonlocal position
        position += count
        return int(bits[position - count : position], 2)

    total, word, sizes = take(32), take(5) + 1, [take(4) + 1 for _ in range(4)]
    while len(values) < total:
        is_run, length = take(1), take(sizes[take(2)]) + 1
        values += [take(word)] * length if is_run else [take(word) for _ in range(length)]
    return np.array(values, np.uint8)


def brush_masks() -> dict[str, npt.NDArray[np.bool_]]:
    large = np.zeros((400, 300), np.bool_)
    large[100:250, 3:299] = True
    single = np.zeros((64, 256), np.bool_)
    single[0, 0] = single[-1, -1] = True
    return {
        "ragged": random_mask(3),
        "all": np.ones((HEIGHT, WIDTH), np.bool_),
        "large": large,
        "runs of 65,536 values": single,
        "a whole number of longest runs": np.ones((128, 128), np.bool_),
    }


@pytest.mark.parametrize("name", brush_masks())
def test_brushes(name: str) -> None:
    mask = brush_masks()[name]
    values = decode(encode_brush(mask)).reshape(*mask.shape, 4)
    assert np.array_equal(values, np.repeat(np.where(mask, 255, 0)[:, :, None], 4, axis=2))


@pytest.mark.slow
@pytest.mark.parametrize("name", brush_masks())
def test_brushes_as_the_sdk_decodes_them(name: str) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    mask = brush_masks()[name]
    channels = brush.decode_rle(encode_brush(mask)).reshape(*mask.shape, 4)
    assert np.array_equal(channels[:, :, 3] > 0, mask)


def test_boxes_in_percent_of_the_upright_image(tmp_path: Path) -> None:
    boxes = [[(1, 0.75, (3, 8, 15, 20)), (4, 0.25, (0, 0, 30, 40))], [], [(1, 0.5, (1, 1, 2, 2))] * 3000]
    names = ["x/a b.jpg", "Größe.jpg", "c.jpg"]
    output = make_run(tmp_path, (BOXES, box_columns(boxes)), names=names, sizes=[(30, 40), (40, 30), (40, 30)])
    first, second, third = export(tmp_path, output, FormatOptions(images_per_file=2))
    assert len(list((tmp_path / "tasks").iterdir())) == 3
    assert first["data"]["image"] == "/data/local-files/?d=x/a%20b.jpg"
    assert [task["data"]["name"] for task in (first, second, third)] == names
    (prediction,) = first["predictions"]
    assert prediction["score"] == 0.5
    region, whole = prediction["result"]
    assert region["value"] == {
        "x": 10, "y": 20, "width": 40, "height": 30, "rotation": 0, "rectanglelabels": ["dog"]
    }  # fmt: skip
    assert (region["original_width"], region["original_height"], region["score"]) == (30, 40, 0.75)
    assert whole["value"]["rectanglelabels"] == [NAMES[4]]
    assert second["predictions"][0]["result"] == []
    ids = [region["id"] for region in third["predictions"][0]["result"]]
    assert len(set(ids)) == 3000
    interface = ElementTree.parse(tmp_path / "tasks" / "config.xml").getroot()
    tag = interface.find("RectangleLabels")
    assert tag is not None
    assert (tag.get("name"), tag.get("toName")) == (region["from_name"], region["to_name"])
    assert [label.get("value") for label in tag] == [name for name in NAMES if name is not None]


def test_images_on_the_web_are_named_by_their_address(tmp_path: Path) -> None:
    output = make_run(tmp_path, (BOXES, box_columns([[]])))
    (task,) = export(tmp_path, output, FormatOptions(image_prefix="https://photos.example.org/"))
    assert task["data"]["image"] == "https://photos.example.org/0.jpg"


def test_masks_as_brushes_and_as_polygons(tmp_path: Path) -> None:
    masks = [random_mask(seed) for seed in range(3)]
    empty = np.zeros((HEIGHT, WIDTH), np.bool_)
    output = make_run(tmp_path, (MASKS, mask_columns([[(1, 0.9, mask) for mask in (*masks, empty)]])))
    (task,) = export(tmp_path / "1", output)
    results = task["predictions"][0]["result"]
    for result, mask in zip(results, masks, strict=True):
        assert np.array_equal(decode(result["value"]["rle"]).reshape(HEIGHT, WIDTH, 4)[:, :, 3] > 0, mask)
    (task,) = export(tmp_path / "2", output, FormatOptions(masks="polygons"))
    for number, mask in enumerate(masks):
        results = [part for part in task["predictions"][0]["result"] if part["id"].split("_")[0] == str(number)]
        polygons = [np.array(part["value"]["points"]) / 100 * (WIDTH, HEIGHT) for part in results]
        assert np.array_equal(fill(polygons, HEIGHT, WIDTH), mask)


def test_keypoints_belong_to_their_box_and_classes_are_choices(tmp_path: Path) -> None:
    columns = {**box_columns([[(1, 0.9, (1, 2, 11, 22))]]), "keypoints": [[[4, 3, 0.5, 8, 6, -1]]]}
    (task,) = export(tmp_path / "1", make_run(tmp_path / "1", (POINTS, columns)))
    box, *points = task["predictions"][0]["result"]
    assert [(point["parentID"], point["value"]["x"], point["value"]["keypointlabels"]) for point in points] == [
        (box["id"], pytest.approx(10), ["point_1"]),
        (box["id"], pytest.approx(20), ["point_2"]),
    ]
    output = make_run(tmp_path / "2", (LABELS, {"label": [NAMES[3]], "label_id": [3], "score": [0.5]}))
    (task,) = export(tmp_path / "2", output)
    assert task["predictions"][0]["result"][0]["value"] == {"choices": [NAMES[3]]}
