"""Speed and memory of evaluating boxes: `python jobs/benchmark/answers_evaluate.py [--images N]` prints JSON.

Makes truth and predictions of the size of COCO's val2017 (5,000 images, 36,000 boxes, of which 1.2 % are crowds, and
100 predictions an image, with equal scores), once as a run of cvbatch and once as COCO's files. Each library evaluates
them in a process of its own, from the files to the twelve numbers: `cvbatch` is `cvbatch.evaluate`, which also tells
the kinds of error apart; `cvbatch_numbers` leaves these out; `pycocotools`, `faster_coco_eval` and `hotcoco` read the
JSON files. Memory is the most above what the process had after its imports. `--only` chooses, because pycocotools takes
minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

WIDTH, HEIGHT, CLASSES, PER_IMAGE = 640, 480, 80, 100
BOXES_PER_IMAGE = 7.2
FILE_ROWS = 10_000


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--only", nargs="*", default=list(LIBRARIES), choices=list(LIBRARIES))
    parser.add_argument("--child", nargs=2, metavar=("LIBRARY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child[0], Path(options.child[1]))))
        return
    with tempfile.TemporaryDirectory(prefix="cvbatch-") as name:
        boxes = make_files(Path(name), options.images)
        answers: dict[str, Any] = {}
        for library in options.only:
            command = [sys.executable, __file__, "--child", library, name]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            answers[library] = json.loads(done.stdout.splitlines()[-1])
    first = next(iter(answers.values()))["numbers"]
    for answer in answers.values():
        numbers = answer.pop("numbers")
        answer["largest_difference"] = max(abs(a - b) for a, b in zip(numbers, first, strict=True))
    about = {"images": options.images, "truth_boxes": boxes, "predictions": options.images * PER_IMAGE}
    print(json.dumps({"about": about, **answers}, indent=1))


def make_files(folder: Path, images: int) -> int:
    """Write truth, results and a run; returns the number of true boxes."""
    rng = np.random.default_rng(0)
    count = int(images * BOXES_PER_IMAGE)
    share = 1 / np.arange(1, CLASSES + 1)
    owners = np.sort(rng.integers(0, int(images * 0.99), count))
    labels = rng.choice(CLASSES, count, p=share / share.sum())
    boxes = _random_boxes(rng, count)
    crowd = rng.random(count) < 0.012
    total = images * PER_IMAGE
    result_boxes, scores = _random_boxes(rng, total), rng.beta(1, 6, total)
    result_labels = rng.choice(CLASSES, total, p=share / share.sum())
    first, per_image = np.searchsorted(owners, np.arange(images)), np.bincount(owners, minlength=images)
    image_of, rank = np.repeat(np.arange(images), PER_IMAGE), np.tile(np.arange(PER_IMAGE), images)
    near = rank < np.minimum(2 * per_image, PER_IMAGE)[image_of]
    copied = first[image_of[near]] + rank[near] // 2
    moved = boxes[copied] + rng.normal(0, 0.08, (len(copied), 4)) * np.tile(boxes[copied][:, 2:], 2)
    moved[:, 2:] = np.maximum(moved[:, 2:], 1)
    result_boxes[near], scores[near] = moved, rng.beta(4, 2, len(copied))
    wrong = rng.random(len(copied)) < 0.2
    result_labels[near] = np.where(wrong, rng.integers(0, CLASSES, len(copied)), labels[copied])
    order = np.lexsort((-scores.round(2), image_of))
    result_boxes = (result_boxes[order] * 4).round() / 4  # what float32 holds exactly
    result_labels, scores = result_labels[order], scores[order].round(2).astype(np.float32)
    _write_json(
        folder, images, (owners, labels, boxes.round(2), crowd), (image_of, result_labels, result_boxes, scores)
    )
    _write_run(folder, images, result_labels, result_boxes, scores)
    return count


def _random_boxes(rng: np.random.Generator, count: int) -> Any:
    size = np.exp(rng.normal(4, 1, (count, 2))).clip(4, (WIDTH - 2, HEIGHT - 2))
    return np.hstack([rng.random((count, 2)) * ((WIDTH, HEIGHT) - size), size])


def _write_json(folder: Path, images: int, truth: tuple[Any, ...], results: tuple[Any, ...]) -> None:
    owners, labels, boxes, crowd = (column.tolist() for column in truth)
    annotations = [
        {
            "id": index + 1,
            "image_id": owners[index] + 1,
            "category_id": labels[index] + 1,
            "bbox": boxes[index],
            "area": boxes[index][2] * boxes[index][3],
            "iscrowd": int(crowd[index]),
        }
        for index in range(len(owners))
    ]
    content = {
        "info": {},
        "images": [
            {"id": index + 1, "width": WIDTH, "height": HEIGHT, "file_name": f"{index:06d}.jpg"}
            for index in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": label + 1, "name": f"class {label}"} for label in range(CLASSES)],
    }
    (folder / "truth.json").write_text(json.dumps(content))
    rows = zip(*(column.tolist() for column in results), strict=True)
    (folder / "results.json").write_text(
        json.dumps(
            [
                {"image_id": image + 1, "category_id": label + 1, "bbox": box, "score": score}
                for image, label, box, score in rows
            ]
        )
    )


def _write_run(folder: Path, images: int, labels: Any, boxes: Any, scores: Any) -> None:
    """Write a run as cvbatch would, without Ray and without photos."""
    from cvbatch.config.job import Job
    from cvbatch.images.preprocess import View
    from cvbatch.models.spec import ModelSpec, rows_schema
    from cvbatch.output.commit_log import CommitLog
    from cvbatch.output.data_files import WriteContext, write_data_files
    from cvbatch.output.store import LocalStore
    from cvbatch.planning.plan import make_plan
    from cvbatch.sources import open_source

    names = tuple(f"class {label}" for label in range(CLASSES))
    model = ModelSpec(alias="boxes", task="detection", kind="python", name="m:f", view=View(resize=8), categories=names)
    manifest = folder / "photos.csv"
    manifest.write_text("uri\n" + "".join(f"{folder}/photos/{row:06d}.jpg\n" for row in range(images)))
    asked = Job.model_validate(
        {
            "source": {"uri": str(manifest)},
            "models": [{"model": "python:m:f"}],
            "output": {"uri": str(folder / "labels")},
        }
    )
    store = LocalStore(str(folder / "labels"))
    store.check_writable()
    log = CommitLog(store, make_plan(store, asked, [model], open_source(asked.source)).rows)
    log.open_epoch()
    schema = rows_schema([model])
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]).astype(np.float32)
    for low in range(0, images, FILE_ROWS):
        high = min(low + FILE_ROWS, images)
        part = slice(low * PER_IMAGE, high * PER_IMAGE)
        columns = {
            "row_id": pa.array(range(low, high)),
            "image_uri": pa.array([f"{folder}/photos/{row:06d}.jpg" for row in range(low, high)]),
            "width": pa.array([WIDTH] * (high - low), pa.int32()),
            "height": pa.array([HEIGHT] * (high - low), pa.int32()),
            "status": pa.array(["ok"] * (high - low)),
            "boxes_boxes": _lists(_lists(pa.array(corners[part].ravel()), 4), PER_IMAGE),
            "boxes_labels": _lists(pa.array(names).take(pa.array(labels[part])), PER_IMAGE),
            "boxes_label_ids": _lists(pa.array(labels[part].astype(np.int32)), PER_IMAGE),
            "boxes_scores": _lists(pa.array(scores[part]), PER_IMAGE),
        }
        arrays = [columns.get(field.name, pa.nulls(high - low, field.type)) for field in schema]
        table = pa.Table.from_arrays(arrays, schema=schema)
        log.commit_files(write_data_files(WriteContext(store.root, log.epoch, schema), [table]).files)


def _lists(values: pa.Array, length: int) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, length, dtype=np.int32)), values)


def measure(library: str, folder: Path) -> dict[str, Any]:
    """Evaluate with one library; seconds, memory and the twelve numbers."""
    evaluate = LIBRARIES[library](folder)
    before = _peak_memory(reset=True)
    started = time.perf_counter()
    numbers = evaluate()
    seconds = time.perf_counter() - started
    memory = _peak_memory() - before
    return {"seconds": round(seconds, 2), "megabytes": round(memory / 1e6), "numbers": [float(n) for n in numbers]}


def _peak_memory(*, reset: bool = False) -> int:
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def _cvbatch(folder: Path, *, error_kinds: bool = True) -> Any:
    import hotcoco  # noqa: F401 - its import is no work

    from cvbatch.evaluation import detection
    from cvbatch.evaluation.evaluate import evaluate

    if not error_kinds:
        detection._ERROR_KINDS = ()  # type: ignore[misc]
    return lambda: evaluate(str(folder / "labels"), str(folder / "truth.json")).metrics["boxes"].values.values()


def _hotcoco(folder: Path) -> Any:
    from hotcoco import COCO, COCOeval

    def evaluate() -> Any:
        truth = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(truth, truth.load_res(str(folder / "results.json")), "bbox")
        evaluation.run()
        return evaluation.stats

    return evaluate


def _faster_coco_eval(folder: Path) -> Any:
    from faster_coco_eval import COCO, COCOeval_faster

    return lambda: _run_as_pycocotools(COCO, COCOeval_faster, folder)


def _pycocotools(folder: Path) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return lambda: _run_as_pycocotools(COCO, COCOeval, folder)


def _run_as_pycocotools(dataset: Any, evaluator: Any, folder: Path) -> Any:
    truth = dataset(str(folder / "truth.json"))
    evaluation = evaluator(truth, truth.loadRes(str(folder / "results.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


LIBRARIES = {
    "cvbatch": _cvbatch,
    "cvbatch_numbers": lambda folder: _cvbatch(folder, error_kinds=False),
    "hotcoco": _hotcoco,
    "faster_coco_eval": _faster_coco_eval,
    "pycocotools": _pycocotools,
}

if __name__ == "__main__":
    main()
