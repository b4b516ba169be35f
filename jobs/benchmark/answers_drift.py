"""Measures `choose_samples` and `measure_drift` on a made-up run of 100,000 rows, and prints JSON.

The run has classes with five scores and embeddings of 512 float16. Each figure is the seconds of one call and the most
memory of a process of its own, which has read nothing before.

    python jobs/benchmark/answers_drift.py [ROWS]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

DIMENSION = 512
CLASSES = 100
BATCH = 10_000
CALLS = {
    "sample --by uncertainty": ("choose_samples", {"by": "uncertainty"}),
    "sample --by random": ("choose_samples", {"by": "random"}),
    "sample --by diversity": ("choose_samples", {"by": "diversity"}),
    "sample --by mixed": ("choose_samples", {"by": "mixed"}),
    "drift": ("measure_drift", {"pixels": 0}),
}


def write_run(folder: Path, rows: int) -> str:
    """Write the output of a run without computing one."""
    from cvbatch.config.job import Job
    from cvbatch.images.preprocess import View
    from cvbatch.models.spec import ModelSpec, rows_schema
    from cvbatch.output.commit_log import CommitLog
    from cvbatch.output.data_files import WriteContext, write_data_files
    from cvbatch.output.store import LocalStore
    from cvbatch.planning.plan import make_plan
    from cvbatch.schema import MEASURES
    from cvbatch.sources import open_source

    (folder / "list.csv").write_text("uri\n" + "".join(f"/photos/{row // 1000}/{row}.jpg\n" for row in range(rows)))
    job = Job.model_validate(
        {"source": {"uri": str(folder / "list.csv")}, "models": [{"model": "python:m:f"}], "output": {"uri": "out"}}
    )
    facts: dict[str, Any] = {"kind": "python", "name": "m:f", "view": View(resize=8)}
    models = [
        ModelSpec(alias="classification", task="classification", categories=tuple(map(str, range(CLASSES))), **facts),
        ModelSpec(alias="embedding", task="embedding", dimension=DIMENSION, dtype="float16", **facts),
    ]
    store = LocalStore(str(folder / "out"))
    store.check_writable()
    make_plan(store, job, models, open_source(job.source))
    log = CommitLog(store, rows)
    log.open_epoch()
    schema = rows_schema(models)
    for low in range(0, rows, BATCH):
        block = make_block(schema, low, min(rows, low + BATCH)).append_column(
            f"{MEASURES}decode", pa.array(np.zeros(min(rows, low + BATCH) - low))
        )
        log.commit_files(write_data_files(WriteContext(store.root, log.epoch, schema), [block]).files)
    return store.root


def make_block(schema: pa.Schema, low: int, high: int) -> pa.Table:
    """Made-up predictions of some rows."""
    random, count = np.random.default_rng(low), high - low
    labels = random.integers(0, CLASSES, count)
    centres = np.random.default_rng(1).normal(size=(CLASSES, DIMENSION))
    vectors = (centres[labels] + random.normal(size=(count, DIMENSION))).astype(np.float16)
    scores = -np.sort(-random.dirichlet(np.full(8, 0.3), count)[:, :5], axis=1)
    ids = (labels[:, None] + np.arange(5)) % CLASSES
    values: dict[str, Any] = {
        "row_id": np.arange(low, high),
        "image_uri": [f"/photos/{row // 1000}/{row}.jpg" for row in range(low, high)],
        "status": ["ok"] * count,
        "width": random.integers(500, 4000, count),
        "height": random.integers(500, 3000, count),
        "image_bytes": random.integers(10_000, 4_000_000, count),
        "classification_label": labels.astype(str),
        "classification_label_id": labels,
        "classification_score": scores[:, 0],
        "classification_top_labels": as_lists(ids.astype(str)),
        "classification_top_label_ids": as_lists(ids.astype(np.int32)),
        "classification_top_scores": as_lists(scores.astype(np.float32)),
        "embedding_vector": as_lists(vectors),
    }
    arrays = [
        pa.nulls(count, field.type)
        if field.name not in values
        else pa.array(values[field.name]).cast(field.type)
        if not isinstance(values[field.name], pa.Array)
        else values[field.name]
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def as_lists(values: Any) -> pa.Array:
    """Rows of an array as lists."""
    offsets = pa.array(np.arange(0, values.size + 1, values.shape[1], np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)))


def measure_call(output: str, name: str) -> dict[str, float]:
    """Seconds and memory of one call in this process."""
    import cvbatch

    function, options = CALLS[name]
    began_with = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    if function == "measure_drift":
        cvbatch.measure_drift(output, output, where="row_id < 50000", reference_where="row_id >= 50000", **options)
    else:
        cvbatch.choose_samples(output, 200, **options)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": round(seconds, 2), "peak_mb": peak // 1024, "imports_mb": began_with // 1024}


def main() -> None:
    """Write the run, and measure each call in a process of its own."""
    if sys.argv[1:2] == ["--call"]:
        print(json.dumps(measure_call(*sys.argv[2:])))
        return
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        output = write_run(Path(folder), rows)
        figures = {
            name: json.loads(
                subprocess.run(
                    [sys.executable, __file__, "--call", output, name], stdout=subprocess.PIPE, check=True
                ).stdout
            )
            for name in CALLS
        }
    print(json.dumps({"rows": rows, "dimension": DIMENSION, "calls": figures}, indent=2))


if __name__ == "__main__":
    main()
