"""Generated truth and predictions of objects: as COCO's dictionaries, and as a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.data_files import WriteContext, write_data_files
from tests.samples import block, planned, spec, started

WIDTH, HEIGHT = 120, 90
CLASSES = ("person", "traffic light", "dog", "N/A", "kite")
MODEL_CLASSES = (None, "kite", "Traffic_Light", None, "dog", "person", "cat")
"""Another order and spelling, and one more class."""


def generate(images: int = 24, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """COCO's truth with crowds and empty images, and results with ties, masks, keypoints, and 150 in one image."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(images):
        for _ in range(0 if image % 6 == 5 else rng.integers(1, 9)):
            box = _random_box(rng)
            crowd = bool(rng.random() < 0.1)
            category = int(rng.choice([0, 1, 2, 4]))
            points = _points_in(box, rng)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image * 7 + 3,
                    "category_id": category * 10,
                    "bbox": box,
                    "area": box[2] * box[3] * 0.8,
                    "iscrowd": int(crowd),
                    "segmentation": _uncompressed(box) if crowd else _polygon(box),
                    "keypoints": points,
                    "num_keypoints": sum(value > 0 for value in points[2::3]),
                }
            )
            for _ in range(rng.integers(0, 4)):
                wrong = rng.random() < 0.2
                results.append(_result(image, int(rng.choice([0, 1, 2, 4])) if wrong else category, box, rng))
        for _ in range(150 if image == 2 else rng.integers(0, 6)):
            results.append(_result(image, int(rng.choice([0, 1, 2, 4])), _random_box(rng), rng))
    truth = {
        "images": [
            {"id": image * 7 + 3, "file_name": f"photos/{image:04d}.jpg", "width": WIDTH, "height": HEIGHT}
            for image in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": index * 10, "name": name} for index, name in enumerate(CLASSES) if name != "N/A"],
    }
    results.sort(key=lambda result: (result["image_id"], -result["score"]))
    return truth, results


def write_run(folder: Path, images: int, results: Sequence[dict[str, Any]], **columns: Any) -> tuple[Path, ModelSpec]:
    """A run of `photos/0000.jpg` and so on, with these results; returns its output."""
    model = ModelSpec(
        **{name: getattr(spec("boxes", "detection"), name) for name in ("alias", "task", "kind", "name", "view")},
        categories=MODEL_CLASSES,
        masks=True,
        keypoints=True,
    )
    label_ids = {name: [c and c.replace("_", " ").lower() for c in MODEL_CLASSES].index(name) for name in CLASSES[:3]}
    label_ids["kite"] = 1
    rows: list[list[dict[str, Any]]] = [[] for _ in range(images)]
    for result in results:
        rows[(result["image_id"] - 3) // 7].append(result)
    ids = [[label_ids[CLASSES[result["category_id"] // 10]] for result in row] for row in rows]
    store, _ = planned(folder, images, model)
    log = started(store, images)
    failed = columns.pop("failed", ())
    lists = {
        "boxes": [[corners(result["bbox"]) for result in row] for row in rows],
        "labels": [[MODEL_CLASSES[label_id] for label_id in row] for row in ids],
        "label_ids": ids,
        "scores": [[result["score"] for result in row] for row in rows],
        "masks": [[result["segmentation"]["counts"] for result in row] for row in rows],
        "keypoints": [[result["keypoints"] for result in row] for row in rows],
    }
    defaults = {
        "image_uri": [f"/data/photos/{image:04d}.jpg" for image in range(images)],
        "width": [WIDTH] * images,
        "height": [HEIGHT] * images,
        **{f"boxes_{name}": values for name, values in lists.items()},
    }
    table = block(0, images, model, failed=failed, **(defaults | columns))
    log.commit_files(write_data_files(WriteContext(store.root, log.epoch, rows_schema([model])), [table]).files)
    return Path(store.root), model


def write_truth(folder: Path, truth: dict[str, Any]) -> Path:
    path = folder / "truth.json"
    path.write_text(json.dumps(truth))
    return path


def oracle(truth: dict[str, Any], results: Sequence[dict[str, Any]], iou_type: str, sigmas: int = 17) -> COCOeval:
    """COCO's own evaluation, accumulated and summarized."""
    used = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}[iou_type]
    coco = COCO()
    coco.dataset = json.loads(json.dumps({**truth, "info": {}}))
    coco.createIndex()
    kept = [{name: result[name] for name in ("image_id", "category_id", "score", used)} for result in results]
    evaluation = COCOeval(coco, coco.loadRes(kept), iou_type)
    if iou_type == "keypoints":
        evaluation.params.kpt_oks_sigmas = np.full(sigmas, 1 / sigmas)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def corners(box: Sequence[float]) -> list[float]:
    """COCO's box as corners."""
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def _random_box(rng: np.random.Generator) -> list[float]:
    """x, y, width, height in quarters of pixels, which float32 holds exactly."""
    size = np.minimum(np.exp(rng.normal(3.2, 0.7, 2)), (WIDTH - 4, HEIGHT - 4)).round() + 2
    place = (rng.random(2) * (np.array([WIDTH, HEIGHT]) - size) * 4).round() / 4
    return [float(number) for number in (*place, *size)]


def _result(image: int, category: int, box: Sequence[float], rng: np.random.Generator) -> dict[str, Any]:
    """A result near a box, with a score of which there are many equal ones."""
    moved = np.array(box) + (rng.normal(0, 0.06, 4) * np.array([box[2], box[3], box[2], box[3]]) * 4).round() / 4
    moved[:2] = np.clip(moved[:2], 0, (WIDTH - 4, HEIGHT - 4))
    moved[2:] = np.clip(moved[2:], 1, (WIDTH, HEIGHT) - moved[:2])
    place = [float(number) for number in moved]
    return {
        "image_id": image * 7 + 3,
        "category_id": category * 10,
        "bbox": place,
        "score": float(rng.integers(1, 32)) / 32,
        "segmentation": _compressed(place),
        "keypoints": _points_in(place, rng),
    }


def _points_in(box: Sequence[float], rng: np.random.Generator, count: int = 3) -> list[float]:
    places = np.array(box[:2]) + np.linspace(0.2, 0.8, count)[:, None] * np.array(box[2:])
    return [float(n) for place in places for n in (*(place * 4).round() / 4, float(rng.choice([0, 1, 2])))]


def _polygon(box: Sequence[float]) -> list[list[float]]:
    x, y, width, height = box
    return [[x, y, x + width, y, x + width, y + 0.6 * height, x, y + height]]


def _mask(box: Sequence[float]) -> Any:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    x, y, width, height = (round(number) for number in box)
    pixels[y : y + max(height, 1), x : x + max(width, 1)] = 1
    return pixels


def _compressed(box: Sequence[float]) -> dict[str, Any]:
    return dict(coco_mask.encode(_mask(box)))


def _uncompressed(box: Sequence[float]) -> dict[str, Any]:
    flat = _mask(box).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, len(flat)]).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": [0, *runs] if flat[0] else runs}


def as_lvis(truth: dict[str, Any]) -> dict[str, Any]:
    """The same truth with LVIS's facts: classes that are known to be missing, and those that may have more objects."""
    present: dict[int, set[int]] = {image["id"]: set() for image in truth["images"]}
    annotations = [{**row, "iscrowd": 0} for row in truth["annotations"]]
    for row in annotations:
        present[row["image_id"]].add(row["category_id"])
    categories = [{**row, "frequency": group} for row, group in zip(truth["categories"], "rcff", strict=True)]
    ids = [row["id"] for row in categories]
    images = [
        {
            **image,
            "neg_category_ids": [key for key in ids if key not in present[image["id"]] and (key + place) % 3],
            "not_exhaustive_category_ids": [key for key in present[image["id"]] if not (key + place) % 4],
        }
        for place, image in enumerate(truth["images"])
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def without_ties(truth: dict[str, Any], results: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Without crowds, without images with more than 100 results, and with different scores."""
    few = [result for result in results if sum(other["image_id"] == result["image_id"] for other in results) <= 100]
    scores = np.random.default_rng(0).permutation(len(few)) / 1024
    few = [{**result, "score": float(score)} for result, score in zip(few, scores, strict=True)]
    few.sort(key=lambda result: (result["image_id"], -result["score"]))
    return {**truth, "annotations": [row for row in truth["annotations"] if not row["iscrowd"]]}, few
