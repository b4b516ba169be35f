"""Speed and memory of exports: `python jobs/benchmark/answers_export.py [ROWS …] [--format NAME …]` prints JSON.

Makes a run with a class and 10 boxes an image and, for the formats that read or link them, photos of 8 × 8 pixels;
exports it, and prints for each number of rows and each format the seconds, boxes and rows a second and the most memory
of the exporting process above what it had before. Each export is a process of its own. `json_dump` is how long Python's
own `json.dump` takes for the same COCO file that is in memory already.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

BOXES = 10
FILE_ROWS = 50_000
WITH_PHOTOS = {"webdataset", "image-folder"}


def _draw_photo(seed: int) -> bytes:
    """The bytes of a JPEG of 8 × 8 pixels."""
    pixels, data = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG")
    return data.getvalue()


@functools.cache
def _hash_photo(seed: int) -> str:
    return hashlib.sha256(_draw_photo(seed)).hexdigest()


def make_photos(folder: Path, rows: int) -> None:
    """Photos of 8 × 8 pixels in folders of a thousand; those of a folder are one file with many names."""
    for low in range(0, rows, 1000):
        part = folder / "photos" / f"{low // 1000:04d}"
        part.mkdir(parents=True)
        first = part / f"{low:08d}.jpg"
        first.write_bytes(_draw_photo(low))
        for row in range(low + 1, min(low + 1000, rows)):
            os.link(first, part / f"{row:08d}.jpg")


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

    categories = tuple(f"class {number}" for number in range(80))
    models = [
        ModelSpec(alias=task, task=task, kind="python", name="m:f", view=View(resize=8), categories=categories)
        for task in ("classification", "detection")
    ]
    manifest = folder / "photos.csv"
    with manifest.open("w") as file:
        file.write("uri\n")
        file.writelines(f"{folder}/photos/{row // 1000:04d}/{row:08d}.jpg\n" for row in range(rows))
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
        context = WriteContext(store.root, log.epoch, schema)
        table = _rows(folder, schema, low, min(low + FILE_ROWS, rows), categories)
        log.commit_files(write_data_files(context, [table]).files)
    finish_run(log)
    return store.root


def _rows(folder: Path, schema: pa.Schema, low: int, high: int, categories: tuple[str, ...]) -> pa.Table:
    generator, count = np.random.default_rng(low), high - low
    corners = np.sort(generator.random((count * BOXES, 2, 2), np.float32) * (640, 480), axis=1).astype(np.float32)
    label_ids = generator.integers(0, 80, count * BOXES, np.int32)
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * BOXES)

    def lists(values: Any) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, values)

    boxes = pa.ListArray.from_arrays(
        pa.array(np.arange(count * BOXES + 1, dtype=np.int32) * 4), pa.array(corners.reshape(-1))
    )
    values = {
        "row_id": pa.array(np.arange(low, high)),
        "image_uri": pa.array([f"{folder}/photos/{row // 1000:04d}/{row:08d}.jpg" for row in range(low, high)]),
        "width": pa.array(np.full(count, 640, np.int32)),
        "height": pa.array(np.full(count, 480, np.int32)),
        "status": pa.array(["ok"] * count),
        "format": pa.array(["jpeg"] * count),
        "content_sha256": pa.array([_hash_photo(row // 1000 * 1000) for row in range(low, high)]),
        "classification_label": pa.array(categories).take(pa.array(label_ids[:count])),
        "classification_label_id": pa.array(label_ids[:count]),
        "classification_score": pa.array(generator.random(count, np.float32)),
        "detection_boxes": lists(boxes),
        "detection_label_ids": lists(pa.array(label_ids)),
        "detection_labels": lists(pa.array(categories).take(pa.array(label_ids))),
        "detection_scores": lists(pa.array(generator.random(count * BOXES, np.float32))),
    }
    arrays = [values.get(field.name, pa.nulls(count, field.type)) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def measure_export(output: str, name: str) -> dict[str, Any]:
    """Export in this process."""
    import cvbatch
    from cvbatch.export.base import find_format

    find_format(name).load_exporter()
    before = _peak_bytes()
    with tempfile.TemporaryDirectory(dir=Path(output).parent) as folder:
        started = time.perf_counter()
        report = cvbatch.export_predictions(output, name, f"{folder}/export")
        seconds = time.perf_counter() - started
        size = sum(path.stat().st_size for path in [Path(folder), *Path(folder).rglob("*")] if path.is_file())
        answer = {
            "rows": report.images,
            "boxes": report.elements,
            "seconds": round(seconds, 2),
            "boxes_per_second": round(report.elements / seconds),
            "rows_per_second": round(report.images / seconds),
            "more_memory_mb": round((_peak_bytes() - before) / 1e6),
            "peak_memory_mb": round(_peak_bytes() / 1e6),
            "written_mb": round(size / 1e6),
        }
        if name == "coco" and report.images <= 100_000:
            answer["json_dump_seconds"] = _time_json_dump(f"{folder}/export")
    return answer


def _time_json_dump(path: str) -> float:
    with open(path) as file:
        content = json.load(file)
    started = time.perf_counter()
    with open(os.devnull, "w") as file:
        json.dump(content, file)
    return round(time.perf_counter() - started, 2)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure all that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=[100_000])
    parser.add_argument("--format", nargs="+", default=["coco"])
    parser.add_argument("--make", nargs=2, metavar=("FOLDER", "ROWS"), help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=2, metavar=("OUTPUT", "FORMAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        print(json.dumps(make_run(Path(options.make[0]), int(options.make[1]))))
        return
    if options.one:
        print(json.dumps(measure_export(*options.one)))
        return
    results = []
    for rows in options.rows:
        with tempfile.TemporaryDirectory(prefix="cvbatch-export-") as folder:
            if WITH_PHOTOS & set(options.format):
                make_photos(Path(folder), rows)
            output = _in_own_process("--make", folder, str(rows))
            results += [{"format": name, **_in_own_process("--one", output, name)} for name in options.format]
    print(json.dumps(results, indent=1))


def _in_own_process(*arguments: str) -> Any:
    """The peak of a process counts what it was forked from, so this one stays small."""
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
