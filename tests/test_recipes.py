"""Models of others as the recipes in `jobs/` run them: files with their heads and metadata."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cvbatch.config.job import ModelConfig
from cvbatch.config.job_file import load_job
from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import View
from cvbatch.inference.loading import probe_model
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import check_model, generate_images, predict
from tests.rigs.graphs import write_constant_graph

JOBS = Path(__file__).parents[1] / "jobs"
SIDE = 64
PHOTO = Image.new("RGB", (128, 64))
ANIMALS = {"0": "animal", "1": "person", "2": "vehicle"}
BOX = np.array([32, 32, 20, 10], np.float32)
"""Centre, width and height in the frame; the photo fills its rows 16 to 48."""
ON_PHOTO = [44, 22, 84, 42]


def resolve(path: Path, **options: Any) -> ModelSpec:
    (spec,) = resolve_models([ModelConfig.model_validate({"model": f"onnx:{path}", **options})])
    return spec


def yolov5_table(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(1, boxes, 5 + classes), of which the first box counts."""
    table = np.zeros((1, 50, 5 + len(scores)), np.float32)
    table[0, 0] = [*BOX, 0.9, *scores]
    return table


def names_of(categories: Mapping[str, str]) -> str:
    return str({int(key): name for key, name in categories.items()})


def assert_one_box(spec: ModelSpec, label: str, score: float) -> None:
    found = predict([spec], [PHOTO])
    assert found["detection_labels"] == [[label]]
    np.testing.assert_allclose(found["detection_scores"][0], [score], atol=1e-5)
    np.testing.assert_allclose(found["detection_boxes"][0], [ON_PHOTO], atol=1e-3)


def test_megadetector_5_by_what_yolov5_writes(tmp_path: Path) -> None:
    table = yolov5_table(np.array([0.8, 0.1, 0.0], np.float32))
    said = {"stride": "64", "names": names_of(ANIMALS)}
    path = write_constant_graph(tmp_path / "md_v5a.onnx", {"output0": table}, shape=(1, 3, SIDE, SIDE), metadata=said)
    spec = resolve(path)
    frame = Letterbox(size=(SIDE, SIDE), centred=True, fill=(114, 114, 114))
    assert spec.view == View(letterbox=frame, interpolation="linear")
    assert (spec.task, spec.categories) == ("detection", tuple(ANIMALS.values()))
    assert_one_box(spec, "animal", 0.72)


def test_megadetector_by_the_job_file(tmp_path: Path) -> None:
    """A file that says nothing of itself."""
    table = yolov5_table(np.array([0.0, 0.1, 0.7], np.float32))
    path = write_constant_graph(tmp_path / "md.onnx", {"output": table}, shape=(1, 3, SIDE, SIDE))
    (entry,) = load_job(str(JOBS / "megadetector.yaml")).models
    (spec,) = resolve_models([entry.model_copy(update={"checkpoint": str(path)})])
    assert_one_box(spec, "vehicle", 0.63)


@pytest.mark.parametrize("kind", ["yolov9", "yolov10", "rt-detr"])
def test_megadetector_6_by_what_ultralytics_writes(kind: str, tmp_path: Path) -> None:
    said = {"stride": "32", "task": "detect", "imgsz": f"[{SIDE}, {SIDE}]", "names": names_of(ANIMALS)}
    half = np.array([*BOX[2:], *BOX[2:]]) / 2 * [-1, -1, 1, 1]
    rows = {
        "yolov9": np.zeros((1, 7, 40), np.float32),
        "yolov10": np.zeros((1, 30, 6), np.float32),
        "rt-detr": np.zeros((1, 30, 7), np.float32),
    }[kind]
    if kind == "yolov9":
        rows[0, :, 0] = [*BOX, 0, 0.6, 0]
    elif kind == "yolov10":
        said["end2end"] = "True"
        rows[0, 0] = [*(np.tile(BOX[:2], 2) + half), 0.6, 1]
    else:
        said["description"] = "Ultralytics rtdetr-l model"
        rows[0, 0] = [22 / 64 + 10 / 64, 0.5, 20 / 64, 20 / 64, 0, 0.6, 0]  # stretched, not framed
    path = write_constant_graph(tmp_path / "mdv6.onnx", {"output0": rows}, shape=(1, 3, SIDE, SIDE), metadata=said)
    assert_one_box(resolve(path), "person", 0.6)


def test_rf_detr_by_its_own_export(tmp_path: Path) -> None:
    """As `RFDETRBase().export()` writes it: boxes as shares, a logit for each of COCO's 91 ids."""
    boxes, logits = np.zeros((1, 5, 4), np.float32), np.full((1, 5, 91), -9, np.float32)
    boxes[0, 0], logits[0, 0, 18] = [0.5, 0.5, 20 / 64, 20 / 64], 1.0
    outputs = {"dets": boxes, "labels": logits}
    path = write_constant_graph(tmp_path / "inference_model.onnx", outputs, shape=(1, 3, SIDE, SIDE))
    spec = resolve(path, categories="coco-91")
    assert spec.view == View(resize=(SIDE, SIDE))
    assert_one_box(spec, "dog", 1 / (1 + np.exp(-1)))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ultralytics") is None, reason="ultralytics is not installed")
@pytest.mark.parametrize("kind", ["yolo11n", "yolo11n-seg", "yolo11n-pose"])
def test_checkpoints_of_ultralytics(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights, all scores are near 0, so that the lowest score is, too."""
    import ultralytics

    monkeypatch.syspath_prepend(str(JOBS))
    monkeypatch.delitem(sys.modules, "ultralytics_model", raising=False)
    weights = tmp_path / f"{kind}.pt"
    ultralytics.YOLO(f"{kind}.yaml").save(str(weights))
    options = {"weights": str(weights), "size": SIDE, "lowest_score": 0.0}
    (spec,) = resolve_models(
        [ModelConfig.model_validate({"model": "python:ultralytics_model:Ultralytics", "options": options})],
        folder=str(JOBS),
    )
    spec = probe_model(spec)
    assert (spec.masks, spec.keypoints, spec.licence) == (kind.endswith("seg"), kind.endswith("pose"), "AGPL-3.0")
    images = generate_images()[:2]
    found = predict([spec], images)
    same = {"imgsz": SIDE, "conf": 0.0, "iou": 0.7, "retina_masks": True, "verbose": False}
    own = ultralytics.YOLO(str(weights)).predict(images, **same)
    for index, result in enumerate(own):
        boxes = result.boxes.xyxy.cpu().numpy()
        boxes = boxes[(boxes[:, :2] < boxes[:, 2:]).all(axis=1)]
        assert len(found["detection_scores"][index]) == len(boxes)
        assert len(boxes) or spec.masks, "empty masks are dropped with their boxes"
        got = np.array(found["detection_boxes"][index], np.float32).reshape(-1, 4)
        np.testing.assert_allclose(np.sort(got.ravel()), np.sort(boxes.ravel()), atol=0.01)
    from ultralytics_model import Ultralytics

    check_model(Ultralytics, options)
