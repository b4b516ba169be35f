"""Measures `compare_runs` on made-up runs, against pandas and scikit-learn: `python jobs/benchmark/answers_compare.py`.

Two runs over the same images (100,000, or the given number), with classes and their best five, the second in another
order; and truth of one class for each image. Each way is a process of its own; `peak_mb` is what it takes more than
after its imports. The peer merges both frames by content, counts flips with `pandas.crosstab`, and with truth draws the
same paired bootstrap of accuracy, balanced accuracy and macro F1 with scikit-learn, which `--draws` makes shorter (its
seconds are then scaled to 1,000 draws). Both must agree on the numbers. Prints JSON.
"""

from __future__ import annotations

import argparse
import hashlib
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

CLASSES = 100
FILE_ROWS = 20_000
OUR_DRAWS = 1_000
KEY = "content_sha256"
LABEL = "classification_label"


def write_run(folder: Path, name: str, rows: int, accuracy: float, seed: int) -> str:
    """Write the output of a run without computing one; its images come in an order of its own."""
    from cvbatch.config.job import Job
    from cvbatch.images.preprocess import View
    from cvbatch.models.spec import ModelSpec, rows_schema
    from cvbatch.output.commit_log import CommitLog
    from cvbatch.output.data_files import WriteContext, write_data_files
    from cvbatch.output.store import LocalStore
    from cvbatch.planning.plan import make_plan
    from cvbatch.sources import open_source

    order = np.random.default_rng(seed).permutation(rows)
    manifest = folder / f"{name}.csv"
    manifest.write_text("uri\n" + "".join(f"/{name}/{image}.jpg\n" for image in order))
    job = Job.model_validate(
        {"source": {"uri": str(manifest)}, "models": [{"model": "python:m:f"}], "output": {"uri": "out"}}
    )
    model = ModelSpec(
        alias="classification",
        task="classification",
        kind="python",
        name="m:f",
        view=View(resize=8),
        categories=tuple(map(str, range(CLASSES))),
    )
    store = LocalStore(str(folder / name))
    store.check_writable()
    make_plan(store, job, [model], open_source(job.source))
    log = CommitLog(store, rows)
    log.open_epoch()
    schema = rows_schema([model])
    for low in range(0, rows, FILE_ROWS):
        block = _rows(schema, name, order[low : low + FILE_ROWS], low, accuracy)
        log.commit_files(write_data_files(WriteContext(store.root, log.epoch, schema), [block]).files)
    return store.root


def true_labels(images: Any) -> Any:
    """The class of each image."""
    return (images * 2_654_435_761 >> 8) % CLASSES


def _rows(schema: pa.Schema, name: str, images: Any, low: int, accuracy: float) -> pa.Table:
    count, random = len(images), np.random.default_rng(low + int(accuracy * 1000))
    truth = true_labels(images)
    right = random.random(count) < accuracy
    labels = np.where(right, truth, (truth + random.integers(1, CLASSES, count)) % CLASSES)
    ids = (labels[:, None] + np.arange(5)) % CLASSES
    scores = -np.sort(-random.dirichlet(np.full(8, 0.3), count)[:, :5], axis=1)
    offsets = pa.array(np.arange(0, count * 5 + 1, 5, dtype=np.int32))
    values: dict[str, Any] = {
        "row_id": np.arange(low, low + count),
        "image_uri": [f"/{name}/{image}.jpg" for image in images],
        "status": ["ok"] * count,
        "width": np.full(count, 640),
        "height": np.full(count, 480),
        KEY: [hashlib.sha256(str(image).encode()).hexdigest() for image in images],
        LABEL: labels.astype(str),
        f"{LABEL}_id": labels,
        "classification_score": scores[:, 0],
        "classification_top_labels": pa.ListArray.from_arrays(offsets, pa.array(ids.astype(str).reshape(-1))),
        "classification_top_label_ids": pa.ListArray.from_arrays(offsets, pa.array(ids.reshape(-1))),
        "classification_top_scores": pa.ListArray.from_arrays(offsets, pa.array(scores.reshape(-1))),
    }
    arrays = [
        pa.array(values[field.name]).cast(field.type) if field.name in values else pa.nulls(count, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def by_cvbatch(first: str, second: str, truth: str | None) -> dict[str, Any]:
    """Our numbers."""
    import cvbatch

    report = cvbatch.compare_runs(first, second, truth=truth)
    answer: dict[str, Any] = {"agreement": report.agreement.values["same class"], "images": report.agreement.images}
    if report.truth is not None:
        answer["verdict"] = report.verdict
    return answer


def by_peer(first: str, second: str, truth: str | None, draws: int) -> dict[str, Any]:
    """The same by pandas and scikit-learn."""
    import pandas as pd
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

    columns = [KEY, "image_uri", LABEL]
    frames = [pd.read_parquet(Path(output, "data"), columns=columns) for output in (first, second)]
    both = frames[0].merge(frames[1], on=KEY, validate="one_to_one")
    one, two = both[f"{LABEL}_x"], both[f"{LABEL}_y"]
    pd.crosstab(one, two)
    answer: dict[str, Any] = {"agreement": float((one == two).mean()), "images": len(both)}
    if truth is None:
        return answer
    labels = pd.read_csv(truth, dtype=str).set_index("image_uri")["label"]
    true = both["image_uri_x"].map(labels).to_numpy(str).astype(int)
    answers = [part.to_numpy(str).astype(int) for part in (one, two)]
    random = np.random.default_rng(0)
    metrics = (accuracy_score, balanced_accuracy_score, lambda right, said: f1_score(right, said, average="macro"))
    started = time.perf_counter()
    for _ in range(draws):
        rows = random.integers(0, len(true), len(true))
        for metric in metrics:
            metric(true[rows], answers[1][rows])
            metric(true[rows], answers[0][rows])
    return {**answer, "draw_seconds": time.perf_counter() - started}


def measure_call(way: str, first: str, second: str, truth: str, draws: int) -> dict[str, Any]:
    """Seconds and memory of one way in this process."""
    import pandas  # noqa: F401

    import cvbatch

    _ = cvbatch.compare_runs
    if way == "peer":
        import sklearn.metrics  # noqa: F401
    before = _peak_mb()
    started = time.perf_counter()
    known = truth or None
    answer = by_peer(first, second, known, draws) if way == "peer" else by_cvbatch(first, second, known)
    seconds = time.perf_counter() - started
    if "draw_seconds" in answer:
        seconds += answer.pop("draw_seconds") * (OUR_DRAWS / draws - 1)
        answer["draws"] = draws
    return {"seconds": round(seconds, 2), "peak_mb": _peak_mb() - before, **answer}


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Write both runs, and measure each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=100_000)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--call", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.call:
        print(json.dumps(measure_call(*options.call, options.draws)))
        return
    with tempfile.TemporaryDirectory(prefix="cvbatch-compare-") as name:
        folder = Path(name)
        runs = [write_run(folder, f"run{seed}", options.rows, 0.80 + seed / 100, seed) for seed in (0, 1)]
        images = np.arange(options.rows)
        lines = (f"/run0/{image}.jpg,{label}\n" for image, label in zip(images, true_labels(images), strict=True))
        truth = folder / "truth.csv"
        truth.write_text("image_uri,label\n" + "".join(lines))
        figures = {
            f"{way}{', with truth' if known else ''}": _in_own_process(way, *runs, known, options.draws)
            for known in ("", str(truth))
            for way in ("cvbatch", "peer")
        }
    print(json.dumps({"rows": options.rows, "load": os.getloadavg(), "ways": figures}, indent=2))


def _in_own_process(way: str, first: str, second: str, truth: str, draws: int) -> Any:
    command = [sys.executable, __file__, "--draws", str(draws), "--call", way, first, second, truth]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


if __name__ == "__main__":
    main()
