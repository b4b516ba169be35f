"""One of each stored record, as plain data, without fields that differ from run to run.

`python -m tests.stored` writes `stored.json` anew, after a format has grown on purpose.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from unittest import mock

import pyarrow.parquet as pq

from cvbatch.config.compute import ComputeConfig
from cvbatch.config.job import Job
from cvbatch.config.train_job import TrainJob
from cvbatch.engine.nodes import Cluster, ClusterNode
from cvbatch.engine.resource_plan import allocate_resources
from cvbatch.errors import RunError
from cvbatch.images.preprocess import View
from cvbatch.inference.settings import InferenceSettings
from cvbatch.models.spec import ModelSpec, describe_schema, rows_schema
from cvbatch.models.trained import TRAINED_MODEL
from cvbatch.output.checkpoints import save_checkpoint
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteResult
from cvbatch.output.lease import Heartbeat
from cvbatch.output.log_records import DataFile
from cvbatch.output.manifest import finish_run
from cvbatch.output.store import LocalStore
from cvbatch.planning.listing_checkpoint import ListingCheckpoint
from cvbatch.planning.plan import make_plan
from cvbatch.results.answer_files import ANSWER_RECORD, AnswerRecord
from cvbatch.runs.run_record import RunRecord
from cvbatch.sources import open_source
from cvbatch.sources.bucket_walk import WalkPosition
from cvbatch.storage.options import StorageOptions
from cvbatch.submit.events import EventLines
from cvbatch.training.log import TrainingLog
from cvbatch.training.plan import TRAINING_PLAN, TrainingPlan
from cvbatch.training.progress import PROGRESS, TrainingProgress
from cvbatch.training.result import describe_result
from cvbatch.truth.stored import TRUTH_FORMAT, StoredTruth
from cvbatch.tuning.certificate import MIN_IMAGES, TuningResult, choose_candidate, save_run_settings
from tests.samples import job, photos, spec

GOLDEN: Final = Path(__file__).with_suffix(".json")
_OF_THE_MOMENT: Final = frozenset(
    {
        "boot_id",
        "busy_shares",
        "command",
        "created_at",
        "host",
        "nonce",
        "opened",
        "pid",
        "pid_space",
        "recent",
        "seconds",
        "seconds_to_first_commit",
        "seen_first",
        "seen_last",
        "started",
        "started_at",
        "time",
        "versions",
    }
)
"""Fields that say where and when something was written, and by whom."""
_PART_NAME: Final = re.compile("(?<=_cvbatch/plan/)[0-9a-f]{32}")
EVERYTHING: Final = ModelSpec(
    alias="tags",
    task="embedding",
    kind="torchvision",
    name="resnet50",
    view=View(resize=(8, 9), crop=(7, 7), interpolation="bicubic"),
    weights="IMAGENET1K_V2",
    weights_path="s3://bucket/w.pth",
    weights_storage=StorageOptions("https://minio.example.org:9000", "here", True, True, "mine"),
    weights_sha256="ab",
    seed=3,
    categories=("a", None),
    label_map="imagenet-1k",
    licence="BSD-3-Clause",
    gflops=4.5,
    masks=True,
    keypoints=True,
    dimension=2048,
    top_k=3,
    score_threshold=0.5,
    normalize=True,
    dtype="float16",
    options={"size": 3, "names": ["a"]},
    folder="/jobs",
    files={"m.py": "cd"},
)


def certificate() -> TuningResult:
    """The result of a search for a setting."""
    measured = []
    for number, setting in enumerate(
        (InferenceSettings(), InferenceSettings("bf16", True, True, False, True, True, 2.0, 1)), 1
    ):
        rates = {"decode_per_core": 9.0, "predict": 1.0 * number, "together": 1.0 * number}
        facts = {"images": MIN_IMAGES, "rates": rates, "agreement": {"tags": {"agree": 1.0}}, "passed": True}
        measured.append({"setting": setting.to_json(), **facts})
    return choose_candidate(measured, has_answers=True)


def records(folder: Path) -> dict[str, Any]:
    """Each record by a readable name."""
    store, source = LocalStore(str(folder / "out")), photos(folder / "photos", 3)
    asked = job(source, store.root)
    plan = make_plan(store, asked, [spec(), EVERYTHING], open_source(asked.source), pythonpath="/jobs")
    log = CommitLog(store, plan.rows)
    log.open_epoch()
    one, two, three = (_file(1, row) for row in range(3))
    log.commit_files([one, two])
    log.replace_files([one.path], [_file(1, 0, "b")], [(0, 1)])
    log.extend_plan(
        [{"path": "p", "first_row_id": 3, "rows": 1}], complete=True, changed=[{"path": "q", "ranges": [[2, 3]]}]
    )
    log.remove_rows([(1, 2)], [])
    log.remove_rows([], [(1, 2)])
    places = [["/archive", "/photos"]]
    log.record_move({"path": "m", "rows": 1, "ranges": [[0, 1]], "places": places, "way": {"region": None}})
    log.commit_files([three, _file(1, 3)])
    save_checkpoint(store, log.state)
    chosen = save_run_settings(store, certificate())
    with Heartbeat(store, log.state, lambda: {"workers": 1}):
        pass
    finish_run(log)
    _run(store, plan, log, chosen)
    listing(store, folder).save_checkpoint(
        plan.parts, {"position": WalkPosition("a/", "a/b", True, ["a/c/"], 0, 1).to_json()}
    )
    with mock.patch.object(store, "_test_method", lambda way, _: None if way.name == "folder" else "refused"):
        store._choose_method("refused")
    return {
        **{_named(path, folder): json.loads(path.read_text()) for path in _stored(folder / "out")},
        "a part of the plan": json.loads(pq.read_schema(store.local_path(plan.parts[0]["path"])).metadata[b"cvbatch"]),
        "a data file": json.loads(describe_schema(rows_schema([spec()]), [spec()], "fp32").metadata[b"cvbatch"]),
        "an answer beside a run": ANSWER_RECORD.to_json(AnswerRecord("duplicates", {"t": 1}, ("f",), ((0, 1),))),
        "imported truth": TRUTH_FORMAT.to_json(StoredTruth(kind="objects", layout="c", categories=("a",))),
        "lines of a job's log": _lines(log),
        "identity of a job": asked.identity(),
        "identity of a job with every option": _every_option().identity(),
        **training_records(folder),
    }


def training_records(folder: Path) -> dict[str, Any]:
    """Records of a training."""
    asked = TrainJob.model_validate(
        {"task": "classification", "model": "resnet18", "source": "/photos", "truth": "/t.csv", "output": "/out"}
    )
    plan = TrainingPlan(
        nonce="n",
        created_at=1.0,
        identity=asked.identity(),
        job=asked.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        start=EVERYTHING,
        categories=("a", "b"),
        images="_cvbatch/training/images-n.parquet",
        trained=3,
        validated=1,
        counts={"a": 2, "b": 2},
        data_sha256="ab",
        truth_layout="a table of labels",
        notes=("a note",),
    )
    best = {"epoch": 1, "metric": 0.5, "scores": {"top-1": 0.5}, "weights": "best.safetensors", "sha256": "cd"}
    log = TrainingLog(LocalStore(str(folder / "training")))
    attempt = log.open_attempt()
    log.append_record(attempt, "checkpoint", position=[1, 2], file="c.pt", best=best, history=[{"epoch": 1}])
    log.append_record(attempt, "final")
    progress = TrainingProgress(attempt=1, epoch=2, epochs=3, step=4, steps=6, loss={"classes": 0.5})
    return {
        "plan of a training": TRAINING_PLAN.to_json(plan),
        "progress of a training": PROGRESS.to_json(progress),
        "a trained model": TRAINED_MODEL.to_json(describe_result(plan, best)),
        **{f"record {path.stem} of a training": json.loads(path.read_text()) for path in _stored(folder / "training")},
    }


def listing(store: LocalStore, folder: Path) -> ListingCheckpoint:
    """The checkpoint of a listing that can be resumed."""
    source = job("", source={"uri": [str(photos(folder / name, 3)) for name in ("photos", "more")]}).source
    return ListingCheckpoint(store, source, open_source(source))


def _run(store: LocalStore, plan: Any, log: CommitLog, chosen: TuningResult) -> None:
    cluster = Cluster((ClusterNode("10.0.0.1", 4, host="vm"),), local=True, object_store_bytes=1 << 30)
    pools, record = allocate_resources(cluster, ComputeConfig(), [spec()], 3, chosen), RunRecord()
    work = {"rows": 2, "seconds": 1.0}
    record.add_result([WriteResult((_file(1, 0),), {"decode": 2.0}, 600, {'{"host": "vm", "pid": 1}': work})], rows=1)
    record.save_record(store, plan, log.state, cluster, pools, chosen, RunError("the disk is full", details="all"))


def _lines(log: CommitLog) -> list[Any]:
    out = io.StringIO()
    events = EventLines(out)
    events.on_phase("starting Ray")
    events.on_planned(log.state)
    events.on_committed(log.state)
    events.on_finished({"rows": 3})
    return [json.loads(line) for line in out.getvalue().splitlines()]


def _every_option() -> Job:
    model = {
        "model": "resnet50",
        "as": "tags",
        "task": "embedding",
        "checkpoint": "/w.pth",
        "categories": ["a"],
        "background": True,
        "sha256": "ab",
        "seed": 3,
        "top_k": 3,
        "score_threshold": 0.5,
        "normalize": True,
        "dtype": "float16",
        "options": {"size": 3},
    }
    source = {
        "uri": ["s3://bucket/a", "/archive"],
        "extensions": ["jpg"],
        "exif": True,
        "rename": {"a": "b"},
        "metadata": "off",
        "image_column": "image",
        "uri_column": "where",
        "icc": "convert",
        "damaged": "keep",
        "limit": 3,
        "max_pixels": 5,
        "min_bytes": "1kB",
        "max_bytes": "1MB",
        "modified_since": "2024-05-31",
        "exclude": ["thumbs"],
        "http_hosts": ["example.org"],
        "http_private": True,
        "anonymous": True,
    }
    compute = {"precision": "bf16", "batch_size": 4}
    parts = {"source": source, "models": [model], "compute": compute, "output": {"uri": "/out"}}
    return Job.model_validate(parts)


def _file(epoch: int, row: int, letter: str = "a") -> DataFile:
    return DataFile(f"data/e{epoch:08d}-{letter * 31}{row}.parquet", 9, ((row, row + 1),), {"Odd": row % 2})


def _stored(output: Path) -> Iterator[Path]:
    return (path for path in sorted(output.rglob("*")) if path.is_file() and path.suffix in (".json", ""))


def _named(path: Path, folder: Path) -> str:
    name = str(path.relative_to(folder / "out"))
    return "_cvbatch/listing.json" if "listing-" in name else name


def lasting(value: Any, folder: Path) -> Any:
    """The fields that do not differ from run to run."""
    if isinstance(value, dict):
        return {key: "…" if key in _OF_THE_MOMENT else lasting(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [lasting(item, folder) for item in value]
    return _PART_NAME.sub("…", value.replace(str(folder), "/folder")) if isinstance(value, str) else value


def main() -> None:
    """Write the golden file again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = json.dumps(lasting(records(folder), folder), indent=1, ensure_ascii=False)
    GOLDEN.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
