"""Speed and memory of exports to tables and training sets: `python jobs/benchmark/answers_tables.py ROWS` gives JSON.

Makes a run of small photos, each with a label and 10 boxes, and exports it to each format in a process of its own:
seconds, images a second, and the most memory of that process. The run is over a thousand JPEG files that a manifest
names again and again.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from answers_export import measure_export

FORMATS = ("delta", "iceberg", "csv", "huggingface", "fiftyone", "image-folder", "webdataset")
BOXES = 10
PHOTOS = 1_000
CLASSES = 80
FILE_ROWS = 50_000


def make_run(folder: Path, rows: int) -> str:
    """Write a finished run as cvbatch would, without Ray."""
    from cvbatch.config.job import Job
    from cvbatch.images.preprocess import View
    from cvbatch.models.spec import ModelSpec, rows_schema
    from cvbatch.output.commit_log import CommitLog
    from cvbatch.output.data_files import WriteContext, write_data_files
    from cvbatch.output.manifest import finish_run
    from cvbatch.output.store import LocalStore
    from cvbatch.planning.plan import make_plan
    from cvbatch.sources import open_source

    facts: dict[str, Any] = {
        "kind": "python",
        "name": "m:f",
        "view": View(resize=8),
        "categories": tuple(f"class {number}" for number in range(CLASSES)),
    }
    models = [ModelSpec(alias=task, task=task, **facts) for task in ("detection", "classification")]
    photos = _write_photos(folder / "photos")
    manifest = folder / "photos.csv"
    manifest.write_text("uri\n" + "".join(f"{photos[row % PHOTOS][0]}\n" for row in range(rows)))
    asked = Job.model_validate(
        {
            "source": {"uri": str(manifest)},
            "models": [{"model": "python:m:f"}],
            "output": {"uri": str(folder / "labels")},
        }
    )
    store = LocalStore(str(folder / "labels"))
    store.check_writable()
    plan = make_plan(store, asked, models, open_source(asked.source))
    log = CommitLog(store, plan.rows)
    log.open_epoch()
    schema = rows_schema(models)
    for low in range(0, rows, FILE_ROWS):
        table = _make_rows(schema, photos, low, min(low + FILE_ROWS, rows))
        log.commit_files(write_data_files(WriteContext(store.root, log.epoch, schema), [table]).files)
    finish_run(log)
    return store.root


def _write_photos(folder: Path) -> list[tuple[str, str, int]]:
    """Path, sha256 and bytes of each photo."""
    from PIL import Image

    folder.mkdir()
    photos = []
    for number in range(PHOTOS):
        with io.BytesIO() as file:
            Image.new("RGB", (64, 48), (number % 256, number // 256 * 60, 90)).save(file, "JPEG")
            content = file.getvalue()
        path = folder / f"{number:04d}.jpg"
        path.write_bytes(content)
        photos.append((str(path), hashlib.sha256(content).hexdigest(), len(content)))
    return photos


def _make_rows(schema: pa.Schema, photos: list[tuple[str, str, int]], low: int, high: int) -> pa.Table:
    generator, count = np.random.default_rng(low), high - low
    names = pa.array([f"class {number}" for number in range(CLASSES)])
    corners = np.sort(generator.random((count * BOXES, 2, 2), np.float32) * (64, 48), axis=1).astype(np.float32)
    label_ids, offsets = generator.integers(0, CLASSES, count * BOXES, np.int32), np.arange(count + 1) * BOXES

    def lists(values: Any, bounds: Any = offsets) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), pa.array(values))

    boxes = lists(corners.reshape(-1), np.arange(count * BOXES + 1) * 4)
    chosen = [photos[row % PHOTOS] for row in range(low, high)]
    values = {
        "row_id": pa.array(np.arange(low, high)),
        **{
            name: pa.array(column)
            for name, column in zip(
                ("image_uri", "content_sha256", "image_bytes"), zip(*chosen, strict=True), strict=True
            )
        },
        "width": pa.array(np.full(count, 64, np.int32)),
        "height": pa.array(np.full(count, 48, np.int32)),
        "format": pa.array(["jpeg"] * count),
        "status": pa.array(["ok"] * count),
        "detection_boxes": lists(boxes),
        "detection_label_ids": lists(label_ids),
        "detection_labels": lists(names.take(pa.array(label_ids))),
        "detection_scores": lists(generator.random(count * BOXES, np.float32)),
        "classification_label_id": pa.array(label_ids[::BOXES]),
        "classification_label": names.take(pa.array(label_ids[::BOXES])),
        "classification_score": pa.array(generator.random(count, np.float32)),
    }
    return pa.Table.from_arrays(
        [values.get(field.name, pa.nulls(count, field.type)) for field in schema], schema=schema
    )


def main() -> None:
    """Measure all that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=100_000)
    parser.add_argument("--format", nargs="+", default=FORMATS)
    parser.add_argument("--make", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=2, metavar=("OUTPUT", "FORMAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        print(json.dumps(make_run(Path(options.make), options.rows)))
    elif options.one:
        measured = measure_export(*options.one)
        print(json.dumps({**measured, "images_per_second": round(measured["rows"] / measured["seconds"])}))
    else:
        with tempfile.TemporaryDirectory(prefix="cvbatch-tables-") as folder:
            output = _run_apart(str(options.rows), "--make", folder)
            for name in options.format:
                print(json.dumps({"format": name, **_run_apart("--one", output, name)}), flush=True)


def _run_apart(*arguments: str) -> Any:
    """The peak of a process counts what it was forked from, so this one stays small."""
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
