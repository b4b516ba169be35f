"""Small runs without Ray: a plan over empty files, a log, and data files with made-up predictions."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa

from cvbatch.config.job import Job
from cvbatch.errors import RowError
from cvbatch.images.preprocess import View
from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.output.log_records import DataFile
from cvbatch.output.store import LocalStore, Store
from cvbatch.planning.plan import Plan, make_plan
from cvbatch.schema import GEO_CRS, MEASURES
from cvbatch.sources import open_source
from cvbatch.stages.decoded_rows import error_columns

FAILED = RowError("decode", "TruncatedImage", "cut off", transient=False)


def spec(alias: str = "classification", task: Any = "classification", **options: Any) -> ModelSpec:
    return ModelSpec(
        alias=alias,
        task=task,
        kind="python",
        name="m:f",
        view=View(resize=8),
        **{"categories": ("a", None, "b"), **options},
    )


def job(uri: Path | str, output: Path | str = "out", /, **parts: Any) -> Job:
    source_part = {"uri": str(uri), **parts.pop("source", {})}
    return Job.model_validate(
        {"source": source_part, "models": [{"model": "python:m:f"}], "output": {"uri": str(output)}, **parts}
    )


def photos(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        (folder / f"{index:04d}.jpg").write_bytes(b"x" * index)
    return folder


def planned(tmp_path: Path, rows: int, *models: ModelSpec) -> tuple[LocalStore, Plan]:
    """A store with a plan of this many files."""
    store = LocalStore(str(tmp_path / "out"))
    return store, planned_in(store, tmp_path, rows, *models)


def planned_in(store: Store, tmp_path: Path, rows: int, *models: ModelSpec) -> Plan:
    """A plan of this many files, in any store."""
    store.check_writable()
    asked = job(photos(tmp_path / "photos", rows), store.root)
    return make_plan(store, asked, models or [spec()], open_source(asked.source))


def started(store: Store, rows: int) -> CommitLog:
    """A log that this process has opened."""
    log = CommitLog(store, rows)
    log.open_epoch()
    return log


def block(
    low: int,
    high: int,
    *models: ModelSpec,
    failed: Collection[int] = (),
    error: RowError = FAILED,
    **columns: Any,
) -> pa.Table:
    """Output of the predict stage for some rows; missing columns are null."""
    ids = range(low, high)
    schema = rows_schema(models or [spec()], geo=GEO_CRS in columns)
    values: dict[str, Any] = {
        "row_id": list(ids),
        "image_uri": [f"/photos/{row}.jpg" for row in ids],
        **error_columns([error if row in failed else None for row in ids]),
        **columns,
    }
    arrays = [pa.array(values.get(column.name, [None] * len(ids)), column.type) for column in schema]
    table = pa.Table.from_arrays(arrays, schema=schema)
    return table.append_column(f"{MEASURES}decode", pa.array([0.5] * len(ids)))


def write(log: CommitLog, low: int, high: int, failed: Collection[int] = ()) -> tuple[DataFile, ...]:
    """Write some rows under the epoch of the log."""
    rows = block(low, high, failed=failed)
    schema = rows_schema([spec()])
    place = getattr(log.store, "place", log.store.root)
    return write_data_files(WriteContext(place, log.epoch, schema), [rows]).files


def commit(log: CommitLog, low: int, high: int, failed: Collection[int] = ()) -> list[DataFile]:
    return log.commit_files(write(log, low, high, failed))


def committed_run(
    tmp_path: Path, rows: int, *models: ModelSpec, failed: Collection[int] = (), **columns: Any
) -> tuple[str, CommitLog]:
    """An output with one data file of made-up rows, and its log; see `block` for `columns`."""
    store, _ = planned(tmp_path, rows, *models)
    return store.root, commit_rows(store, rows, *models, failed=failed, **columns)


def commit_rows(store: Store, rows: int, *models: ModelSpec, failed: Collection[int] = (), **columns: Any) -> CommitLog:
    """Commit one data file with all rows of a plan."""
    log = started(store, rows)
    context = WriteContext(store.root, log.epoch, rows_schema(models))
    log.commit_files(write_data_files(context, [block(0, rows, *models, failed=failed, **columns)]).files)
    return log
