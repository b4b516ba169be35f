"""Edits of photos with true boxes: images per second beside a plain loop of Pillow, and how much of each box is hidden.

    python jobs/benchmark/edits.py FOLDER [COPIES]

FOLDER has COCO photos in `images/` and their truth in `instances.json`. The boxes are those of the truth, so the
coverage says what redaction does with right boxes; with `--run OUTPUT`, a finished run over `images/`, it says what
the detector of that run has missed. Prints JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

import cvbatch
from cvbatch.config.job import Job
from cvbatch.images.decode import decode
from cvbatch.images.preprocess import View
from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.output.manifest import finish_run
from cvbatch.output.store import LocalStore
from cvbatch.planning.plan import make_plan
from cvbatch.planning.units import RowUnit, read_unit_rows
from cvbatch.runs.run_record import load_record
from cvbatch.sources import open_source
from cvbatch.stages.decoded_rows import error_columns
from cvbatch.storage.location import Location

PERSON = "person"
Boxes = dict[str, list[tuple[str, tuple[float, float, float, float]]]]


def read_truth(folder: Path) -> tuple[list[str], Boxes]:
    """Class names, and boxes by the name of the photo; crowds are left out."""
    truth = json.loads((folder / "instances.json").read_text())
    classes = {category["id"]: category["name"] for category in truth["categories"]}
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    boxes: Boxes = defaultdict(list)
    for annotation in truth["annotations"]:
        x, y, width, height = annotation["bbox"]
        if not annotation.get("iscrowd"):
            boxes[names[annotation["image_id"]]].append(
                (classes[annotation["category_id"]], (x, y, x + width, y + height))
            )
    return list(dict.fromkeys(classes.values())), boxes


def make_run(photos: Path, output: Path, classes: list[str], boxes: Boxes) -> None:
    """A finished run whose predictions are the truth, all with a score of 0.9."""
    model = ModelSpec(
        alias="detection", task="detection", kind="python", name="m:f", view=View(resize=8), categories=tuple(classes)
    )
    job = Job.model_validate(
        {"source": {"uri": str(photos)}, "models": [{"model": "python:m:f"}], "output": {"uri": str(output)}}
    )
    store = LocalStore(str(output))
    store.check_writable()
    plan = make_plan(store, job, [model], open_source(job.source))
    log = CommitLog(store, plan.rows)
    log.open_epoch()
    schema = rows_schema([model])
    for part in plan.parts:
        rows = read_unit_rows(
            Location(str(output)), RowUnit(part["path"], part["first_row_id"], part["first_row_id"] + part["rows"])
        )
        facts = [_facts_of(uri, classes, boxes) for uri in rows["image_uri"].to_pylist()]
        values: dict[str, Any] = {
            **{name: rows[name].to_pylist() for name in ("row_id", "image_uri")},
            **error_columns([None] * len(facts)),
            **{name: [fact[name] for fact in facts] for name in facts[0]},
        }
        table = _table_of(schema, values)
        log.commit_files(write_data_files(WriteContext(Location(str(output)), log.epoch, schema), [table]).files)
    finish_run(log)


def _table_of(schema: pa.Schema, values: dict[str, Any]) -> pa.Table:
    count = len(values["row_id"])
    return pa.table([pa.array(values.get(c.name, [None] * count), c.type) for c in schema], schema=schema)


def _facts_of(uri: str, classes: list[str], boxes: Boxes) -> dict[str, Any]:
    data = Path(uri).read_bytes()
    decoded = decode(data, max_pixels=10**9)
    found = boxes[os.path.basename(uri)]
    return {
        "width": decoded.width,
        "height": decoded.height,
        "format": decoded.format,
        "content_sha256": hashlib.sha256(data).hexdigest(),
        "image_bytes": len(data),
        "detection_boxes": [list(box) for _, box in found],
        "detection_labels": [label for label, _ in found],
        "detection_label_ids": [classes.index(label) for label, _ in found],
        "detection_scores": [0.9] * len(found),
    }


def pillow_loop(photos: Path, to: Path, boxes: Boxes) -> float:
    """Seconds of the loop that one would write: open, fill, save, file by file; no hashes, no rows, no resuming."""
    started = time.perf_counter()
    for path in sorted(photos.rglob("*.jpg")):
        image = Image.open(path)
        image.load()
        quantization = image.quantization  # type: ignore[attr-defined]
        draw = ImageDraw.Draw(image)
        for label, box in boxes[path.name]:
            if label == PERSON:
                draw.rectangle(box, fill=0)
        target = to / path.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        image.save(file, "JPEG", qtables=quantization)
        target.write_bytes(file.getvalue())
    return time.perf_counter() - started


def measure_coverage(photos: Path, edited: Path, boxes: Boxes) -> dict[str, Any]:
    """Share of each true person box that is black after filling."""
    shares, missed = [], []
    for name, found in sorted(boxes.items()):
        target = edited / name
        if not target.exists():
            continue
        pixels = np.asarray(Image.open(target).convert("L"))
        for label, (x_min, y_min, x_max, y_max) in found:
            if label == PERSON:
                area = pixels[int(y_min) : int(np.ceil(y_max)), int(x_min) : int(np.ceil(x_max))]
                shares.append(float((area < 16).mean()))
                if shares[-1] < 0.95:
                    missed.append({"photo": name, "box": [x_min, y_min, x_max, y_max], "covered": round(shares[-1], 3)})
    return {"persons": len(shares), "covered_95": sum(share >= 0.95 for share in shares), "missed": missed}


def measure_speed(
    photos: Path, names: set[str], work: Path, copies: int, classes: list[str], boxes: Boxes
) -> dict[str, Any]:
    """Images per second of the loop and of three edits, over copies of some photos."""
    for copy in range(copies):
        folder = work / "many" / f"{copy:03}"
        folder.mkdir(parents=True)
        for name in names:
            shutil.copy(photos / name, folder / name)
    make_run(work / "many", work / "run", classes, boxes)
    count = copies * len(names)
    loop = pillow_loop(work / "many", work / "loop", boxes)
    persons = sum(any(label == PERSON for label, _ in boxes[name]) for name in names)
    result: dict[str, Any] = {
        "images": count,
        "share_with_a_person": round(persons / len(names), 2),
        "pillow_per_second": round(count / loop, 1),
    }
    for how in ("fill", "blur", "pixelate"):
        started = time.perf_counter()
        answer = cvbatch.redact_images(str(work / "run"), str(work / how), classes=[PERSON], how=how)
        whole = time.perf_counter() - started
        busy = load_record(LocalStore(answer.audit))["seconds"]
        result[how] = {
            "per_second": round(count / busy, 1),
            "ratio": round(loop / busy, 2),
            "with_start_of_ray": round(count / whole, 1),
            "ratio_with_start_of_ray": round(loop / whole, 2),
        }
        shutil.rmtree(work / how)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("copies", type=int, nargs="?", default=200)
    parser.add_argument("--only-persons", action="store_true", help="measure photos that all have a person, too")
    parser.add_argument("--run", help="finished run over FOLDER/images, to measure its coverage instead")
    options = parser.parse_args()
    classes, boxes = read_truth(options.folder)
    photos = options.folder / "images"
    with tempfile.TemporaryDirectory(prefix="edits-") as text:
        work = Path(text)
        run = options.run
        if run is None:
            make_run(photos, work / "run", classes, boxes)
            run = str(work / "run")
        cvbatch.redact_images(run, str(work / "covered"), classes=[PERSON], how="fill")
        result: dict[str, Any] = {"coverage": measure_coverage(photos, work / "covered", boxes)}
        if options.run is not None:
            print(json.dumps(result, indent=1))
            return
        with_person = {name for name, found in boxes.items() if any(label == PERSON for label, _ in found)}
        names = {path.name for path in photos.iterdir()}
        result["all photos"] = measure_speed(photos, names, work / "all", options.copies, classes, boxes)
        if options.only_persons:
            chosen = names & with_person
            copies = options.copies * len(names) // len(chosen)
            result["photos with a person"] = measure_speed(photos, chosen, work / "some", copies, classes, boxes)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
