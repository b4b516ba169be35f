"""Boxes of a large run as a frame and in SQL, against pandas: `python jobs/benchmark/answers_query.py [BOXES]`.

Makes a run with the given number of boxes (a million by default), ten in each image, without Ray. Each way to read
it is measured in a process of its own, in turns, three times; the best time counts, and `cpu_seconds` stands beside it,
which other work on the machine changes less. `peak_mb` is what the process takes more than after its imports. Prints
JSON.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BOXES_PER_IMAGE = 10
ROUNDS = 3
_LISTS = ["detection_labels", "detection_label_ids", "detection_scores", "detection_boxes"]
_SQL = "SELECT label, count(*) AS boxes, avg(score) AS score FROM detections GROUP BY label ORDER BY label"


def read_detections(output: str) -> Any:
    """Our frame."""
    import cvbatch

    return cvbatch.read_detections(output)


def pandas_explode(output: str) -> Any:
    """The same frame by pandas alone."""
    import pandas as pd

    rows = pd.read_parquet(Path(output, "data"), columns=["row_id", "image_uri", *_LISTS])
    boxes = rows.explode(_LISTS, ignore_index=True)
    corners = pd.DataFrame(boxes.pop("detection_boxes").tolist(), columns=["x_min", "y_min", "x_max", "y_max"])
    return boxes.join(corners)


def sql_group_by(output: str) -> Any:
    """A count and a mean by class, by DuckDB over the view."""
    import cvbatch

    return cvbatch.query_sql(output, _SQL)


def sql_unnest(output: str) -> Any:
    """The same by DuckDB over the files, which unnests the lists."""
    import duckdb

    unnested = (
        f"SELECT unnest(detection_labels) AS label, unnest(detection_scores) AS score FROM '{output}/data/**/*.parquet'"
    )
    return duckdb.sql(_SQL.replace("detections", f"({unnested})")).df()


def pandas_group_by(output: str) -> Any:
    """The same by pandas, from its own frame."""
    boxes = pandas_explode(output)
    return boxes.astype({"detection_scores": float}).groupby("detection_labels").detection_scores.agg(["size", "mean"])


WAYS = (read_detections, pandas_explode, sql_group_by, sql_unnest, pandas_group_by)


def measure(way: str, output: str) -> dict[str, float]:
    """Time and memory of one way, in this process."""
    import duckdb
    import pandas
    import pyarrow.dataset

    import cvbatch.results.predictions
    import cvbatch.results.sql.query

    del duckdb, pandas, pyarrow
    cvbatch.results.predictions.read(output, columns=["row_id"], where="row_id < 1")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, started_cpu = time.perf_counter(), time.process_time()
    frame = {function.__name__: function for function in WAYS}[way](output)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    size = frame.memory_usage(index=False).sum() / 1e6
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "peak_mb": round(peak / 1e3, 1),
        "frame_mb": round(size, 1),
        "rows": len(frame),
    }


def make_run(folder: Path, boxes: int) -> str:
    """A finished run with made-up boxes."""
    import numpy as np
    import pyarrow as pa

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from cvbatch.models.spec import rows_schema
    from cvbatch.output.data_files import WriteContext, write_data_files
    from cvbatch.output.store import LocalStore
    from cvbatch.planning.plan import make_plan
    from cvbatch.sources import open_source
    from tests.samples import job, spec, started

    images, rows_per_file = boxes // BOXES_PER_IMAGE, 10_000
    model, random = spec("detection", "detection"), np.random.default_rng(0)
    manifest = folder / "images.csv"
    manifest.write_text("uri\n" + "".join(f"/archive/2019/camera-07/{row:09d}.jpg\n" for row in range(images)))
    store = LocalStore(str(folder / "out"))
    store.check_writable()
    asked = job(manifest, store.root)
    make_plan(store, asked, [model], open_source(asked.source))
    log = started(store, images)
    schema = rows_schema([model])
    for low in range(0, images, rows_per_file):
        rows = min(rows_per_file, images - low)
        count = rows * BOXES_PER_IMAGE
        offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * BOXES_PER_IMAGE)
        ids = random.choice(np.array([0, 2], np.int32), count)
        corners = pa.array((random.random(count * 4) * 640).astype(np.float32))
        quadruples = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32) * 4), corners)
        values = {
            "row_id": pa.array(range(low, low + rows)),
            "image_uri": pa.array([f"/archive/2019/camera-07/{row:09d}.jpg" for row in range(low, low + rows)]),
            "status": pa.array(["ok"] * rows),
            "width": pa.array([640] * rows, pa.int32()),
            "detection_labels": pa.ListArray.from_arrays(offsets, pa.array(np.array(["a", "", "b"])[ids])),
            "detection_label_ids": pa.ListArray.from_arrays(offsets, pa.array(ids)),
            "detection_scores": pa.ListArray.from_arrays(offsets, pa.array(random.random(count).astype(np.float32))),
            "detection_boxes": pa.ListArray.from_arrays(offsets, quadruples),
        }
        arrays = [
            values[field.name].cast(field.type) if field.name in values else pa.nulls(rows, field.type)
            for field in schema
        ]
        table = pa.Table.from_arrays(arrays, schema=schema)
        log.commit_files(write_data_files(WriteContext(store.root, log.epoch, schema), [table]).files)
    return str(store.root)


def main() -> None:
    """Measure all ways in turns."""
    boxes = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        output = make_run(Path(folder), boxes)
        results: dict[str, list[dict[str, float]]] = {way.__name__: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way, measured in results.items():
                command = [sys.executable, __file__, "--measure", way, output]
                measured.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    best = {way: min(measured, key=lambda one: one["seconds"]) for way, measured in results.items()}
    ratio = best["pandas_explode"]["seconds"] / best["read_detections"]["seconds"]
    answer = {"boxes": boxes, "cores": len(os.sched_getaffinity(0)), "best": best, "pandas_to_ours": round(ratio, 2)}
    sys.stdout.write(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        sys.stdout.write(json.dumps(measure(sys.argv[2], sys.argv[3])))
    else:
        main()
