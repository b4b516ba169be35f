"""Each head with boxes, against plain loops over the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cvbatch.config.job import ModelConfig
from cvbatch.images.preprocess import boxes_to_original
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import predict
from tests.rigs.graphs import write_constant_graph

Array = npt.NDArray[np.float32]
NAMES = ("cat", "dog", "owl")
SIZE = (100, 50)
"""(width, height) of the image; it fills the upper half, or the middle, of a frame of 64 × 64."""
PHOTO = Image.new("RGB", SIZE)
FRAME_BOXES = np.array(
    [[10, 20, 30, 44], [11, 21, 31, 44], [40, 24, 60, 40], [0, 16, 64, 48], [5, 30, 9, 31]], np.float32
)
"""Corners in the frame; the first two overlap by more than nine tenths."""
SCORES = np.array([[0.9, 0.1, 0.0], [0.8, 0.7, 0.2], [0.0, 0.6, 0.3], [0.01, 0.02, 0.5], [0.01, 0.0, 0.02]], np.float32)


def centred(boxes: Array) -> Array:
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def overlap(one: Array, other: Array) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / (float(np.prod(one[2:] - one[:2])) + float(np.prod(other[2:] - other[:2])) - shared)


def plain_boxes(
    boxes: Array, scores: Array, spec: ModelSpec, *, best_class: bool, limit: float | None
) -> list[tuple[str, float, list[float]]]:
    """What a loop over all boxes and classes finds: label, score, corners in the original; best first."""
    found = []
    for box, row in zip(boxes, scores, strict=True):
        for label, score in enumerate(row):
            if score >= 0.05 and (not best_class or label == int(np.argmax(row))):
                corners = boxes_to_original(spec.view, SIZE, box[None])[0]
                if (corners[:2] < corners[2:]).all():
                    found.append((float(score), label, corners))
    kept: list[tuple[float, int, Array]] = []
    for score, label, box in sorted(found, key=lambda entry: -entry[0]):
        rivals = [other for _, other_label, other in kept if other_label == label]
        if limit is None or all(overlap(box, other) <= limit for other in rivals):
            kept.append((score, label, box))
    names = [name for name in spec.categories]
    return [(str(names[label]), score, box.tolist()) for score, label, box in kept]


def detect(path: Path, **options: Any) -> tuple[ModelSpec, list[tuple[str, float, list[float]]]]:
    options = {"preprocess": "yolo", **options}
    config = ModelConfig(model=f"onnx:{path}", task="detection", categories=NAMES, options=options)
    (spec,) = resolve_models([config])
    columns = predict([spec], [PHOTO, PHOTO, PHOTO], batch_size=2, threads=1)
    kinds = ("labels", "scores", "boxes")
    rows = [list(zip(*(columns[f"detection_{kind}"][row] for kind in kinds), strict=True)) for row in range(3)]
    assert rows[0] == rows[1] == rows[2]
    return spec, rows[0]


def logits(probabilities: Array) -> Array:
    clipped = np.clip(probabilities, 1e-4, 1 - 1e-4)
    return np.log(clipped / (1 - clipped)).astype(np.float32)


def many(table: Array, count: int = 40) -> Array:
    """With further rows that nothing comes of, so that there are more boxes than numbers of each."""
    return np.concatenate([table, np.zeros((count, table.shape[1]), np.float32)])


def yolo(boxes: Array, scores: Array) -> dict[str, Array]:
    return {"output0": many(np.concatenate([centred(boxes), scores], axis=1)).T[None]}


def yolo_transposed(boxes: Array, scores: Array) -> dict[str, Array]:
    return {"output0": many(np.concatenate([centred(boxes), scores], axis=1))[None]}


def yolov5(boxes: Array, scores: Array) -> dict[str, Array]:
    best = scores.max(axis=1, keepdims=True)
    return {"output0": many(np.concatenate([centred(boxes), best, scores / best], axis=1))[None]}


def rows(boxes: Array, scores: Array) -> dict[str, Array]:
    best = scores.argmax(axis=1)
    table = np.concatenate([boxes, scores.max(axis=1, keepdims=True), best[:, None]], axis=1)
    return {"output0": many(table)[None].astype(np.float32)}


def pair(format_boxes: Callable[[Array], Array]) -> Callable[[Array, Array], dict[str, Array]]:
    return lambda boxes, scores: {"boxes": format_boxes(boxes)[None], "scores": scores[None]}


def rf_detr(boxes: Array, scores: Array) -> dict[str, Array]:
    return {"dets": centred(boxes)[None] / 64, "labels": logits(scores)[None]}


def detr(boxes: Array, scores: Array) -> dict[str, Array]:
    nothing = 1 - scores.sum(axis=1, keepdims=True)
    with_nothing = np.log(np.clip(np.concatenate([scores, nothing], axis=1), 1e-6, None))
    return {"logits": with_nothing[None].astype(np.float32), "pred_boxes": centred(boxes)[None] / 64}


def after_suppression(boxes: Array, scores: Array) -> dict[str, npt.NDArray[Any]]:
    labels = scores.argmax(axis=1)
    return {"boxes": boxes[None], "labels": labels[None].astype(np.int64), "scores": scores.max(axis=1)[None]}


def tensorflow(boxes: Array, scores: Array) -> dict[str, Array]:
    labels = scores.argmax(axis=1).astype(np.float32)
    corners = boxes[:, [1, 0, 3, 2]] / 64
    return {
        "detection_boxes": corners[None],
        "detection_classes": labels[None],
        "detection_scores": scores.max(axis=1)[None],
    }


DISJOINT = np.array([[0.9, 0.05, 0.02], [0.1, 0.8, 0.02], [0.0, 0.6, 0.3], [0.01, 0.02, 0.5], [0.01, 0.0, 0.02]])
HEADS: Mapping[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "yolo": (yolo, {}, {"best_class": True, "limit": 0.7}),
    "yolo, rows first": (yolo_transposed, {"head": "yolo"}, {"best_class": True, "limit": 0.7}),
    "yolo, own limit": (yolo, {"overlap": 0.3}, {"best_class": True, "limit": 0.3}),
    "yolov5": (yolov5, {"head": "yolov5"}, {"best_class": True, "limit": 0.45}),
    "rows": (rows, {}, {"best_class": True, "limit": None}),
    "xyxy": (
        pair(lambda boxes: boxes),
        {"box_format": "xyxy", "box_units": "pixels", "scores": "probabilities"},
        {"best_class": False, "limit": 0.5},
    ),
    "xywh": (
        pair(lambda boxes: np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)),
        {"box_format": "xywh", "box_units": "pixels", "scores": "probabilities"},
        {"best_class": False, "limit": 0.5},
    ),
    "cxcywh": (
        pair(lambda boxes: centred(boxes) / 64),
        {"box_format": "cxcywh", "box_units": "fractions", "scores": "probabilities", "overlap": 0.9},
        {"best_class": False, "limit": 0.9},
    ),
    "rf-detr": (rf_detr, {}, {"best_class": False, "limit": None}),
    "detr": (detr, {}, {"best_class": True, "limit": None}),
    "after suppression": (after_suppression, {}, {"best_class": True, "limit": None}),
    "tensorflow": (tensorflow, {}, {"best_class": True, "limit": None}),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_a_head_gives_what_a_loop_finds(head: str, fit: str, tmp_path: Path) -> None:
    make, options, plain = HEADS[head]
    scores = DISJOINT.astype(np.float32) if head in ("rf-detr", "detr", "rows") else SCORES
    path = write_constant_graph(tmp_path / "model.onnx", make(FRAME_BOXES, scores))
    spec, found = detect(path, fit=fit, **options)
    expected = plain_boxes(FRAME_BOXES, scores, spec, **plain)
    assert [label for label, _, _ in found] == [label for label, _, _ in expected]
    np.testing.assert_allclose([score for _, score, _ in found], [score for _, score, _ in expected], atol=2e-3)
    np.testing.assert_allclose([box for *_, box in found], [box for *_, box in expected], atol=2e-3)
    assert len(found) >= 3


def test_a_background_comes_first_if_there_is_one_score_more(tmp_path: Path) -> None:
    scores = np.concatenate([1 - SCORES.max(axis=1, keepdims=True), SCORES], axis=1)
    path = write_constant_graph(tmp_path / "ssd.onnx", pair(lambda boxes: boxes)(FRAME_BOXES, scores))
    options = {"box_format": "xyxy", "box_units": "pixels", "scores": "probabilities"}
    spec, found = detect(path, **options)
    assert spec.categories == (None, *NAMES)
    assert [label for label, _, _ in found][:2] == ["cat", "dog"]


def nanodet_reference(scores: Array, distances: Array, shift: float, strides: tuple[int, ...]) -> Array:
    boxes = []
    for stride in strides:
        for y in range(64 // stride):
            for x in range(64 // stride):
                row = distances[len(boxes)].reshape(4, -1).astype(np.float64)
                powers = np.exp(row)
                left, top, right, bottom = (powers * np.arange(row.shape[1])).sum(axis=1) / powers.sum(axis=1) * stride
                cx, cy = (x + shift) * stride, (y + shift) * stride
                boxes.append([cx - left, cy - top, cx + right, cy + bottom])
    return np.array(boxes, np.float32)


@pytest.mark.parametrize("plus", [False, True])
def test_nanodet_in_both_forms(plus: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    strides = (8, 16, 32, 64) if plus else (8, 16, 32)
    counts = [(64 // stride) ** 2 for stride in strides]
    scores = (random.uniform(0, 1, (sum(counts), 3)) ** 8).astype(np.float32)
    distances = random.normal(0, 1, (sum(counts), 4 * 8)).astype(np.float32)
    outputs = {"output": np.concatenate([scores, distances], axis=1)[None]}
    if not plus:
        ends = np.cumsum(counts)[:-1]
        outputs = {
            f"{kind}_pred_stride_{stride}": part[None]
            for kind, table in (("cls", scores), ("dis", distances))
            for stride, part in zip(strides, np.split(table, ends), strict=True)
        }
    path = write_constant_graph(tmp_path / "nanodet.onnx", outputs)
    spec, found = detect(path, preprocess="nanodet", **({"head": "nanodet"} if plus else {}))
    boxes = nanodet_reference(scores, distances, 0.0 if plus else 0.5, strides)
    expected = plain_boxes(boxes, scores, spec, best_class=False, limit=0.6)
    assert spec.view.letterbox is not None
    assert not spec.view.letterbox.centred
    assert len(found) > 20
    assert [entry[0] for entry in found] == [entry[0] for entry in expected]
    np.testing.assert_allclose([entry[2] for entry in found], [entry[2] for entry in expected], atol=1e-2)


POINTS = np.array([[[12, 22, 0.9], [28, 40, 0.5]], [[0, 0, 0], [0, 0, 0]], [[41, 25, 0.7], [59, 39, 0.1]]], np.float32)


@pytest.mark.parametrize("form", ["columns", "rows", "without scores"])
def test_keypoints_are_those_of_their_boxes(form: str, tmp_path: Path) -> None:
    """As Ultralytics exports pose models: before and after suppression, and of two numbers for each point."""
    numbers = POINTS[..., :2] if form == "without scores" else POINTS
    boxes, flat = FRAME_BOXES[:3], numbers.reshape(3, -1)
    said = {"stride": "32", "task": "pose", "imgsz": "[64, 64]", "names": "{0: 'cat'}"}
    said["kpt_shape"] = f"[2, {numbers.shape[2]}]"
    scores = np.array([[0.9], [0.8], [0.6]], np.float32)
    if form == "rows":
        table = np.concatenate([boxes, scores, np.zeros((3, 1), np.float32), flat], axis=1)[None]
        said["end2end"] = "True"
    else:
        table = np.concatenate([centred(boxes), scores, flat], axis=1).T[None]
    path = write_constant_graph(tmp_path / "pose.onnx", {"output0": table}, metadata=said, shape=("batch", 3, 64, 64))
    (spec,) = resolve_models([ModelConfig(model=f"onnx:{path}")])
    assert spec.keypoints
    assert ModelSpec.from_json(spec.to_json()) == spec
    found = predict([spec], [PHOTO])
    assert len(found["detection_scores"][0]) == (3 if form == "rows" else 2), "what overlaps is dropped with its points"
    expected = POINTS[[0, 1, 2] if form == "rows" else [0, 2]].copy()
    if form == "without scores":
        expected[..., 2] = 1
    # the frame is centred: 64 pixels for 100, and 16 pixels of grey above
    expected[..., 0] *= 100 / 64
    expected[..., 1] = (expected[..., 1] - 16).clip(0) * 100 / 64
    got = np.array(found["detection_keypoints"][0], np.float32).reshape(-1, 2, 3)
    np.testing.assert_allclose(got, expected, atol=1e-3)
