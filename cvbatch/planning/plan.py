"""The plan: the immutable list of all images of a run, with a dense `row_id` for each."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cvbatch.config import Job
from cvbatch.errors import OutputError, SourceError
from cvbatch.models.spec import ModelSpec
from cvbatch.schema import ROW_ID, predictions_schema
from cvbatch.sources.entries import ENTRY_FIELDS, LOCATION, SPAN, Source, known_as
from cvbatch.sources.filters import REASONS
from cvbatch.storage.places import Place
from cvbatch.writing.manifest import DATA
from cvbatch.writing.ranges import Range
from cvbatch.writing.records import State
from cvbatch.writing.store import Store, create_surely, open_store

PLAN = "_cvbatch/plan.json"
_PARTS = "_cvbatch/plan"
_FORMAT = 1
_ROW_GROUP = 4096

Part = Mapping[str, Any]
"""`{path, first_row_id, rows}` of one Parquet file of the plan, or `{path, ranges}` of one with newer facts of rows
that were planned before."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run's `plan.json`."""

    nonce: str
    rows: int
    parts: tuple[Part, ...]
    complete: bool
    """False if a limit ended the listing."""
    identity: Mapping[str, Any]
    job: Mapping[str, Any]
    models: tuple[ModelSpec, ...]
    skipped: Mapping[str, int]
    unreadable: tuple[str, ...]
    pythonpath: str | None
    """Folder that `python:` models are imported from."""

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Plan:
        """Read what `plan.json` holds.

        Raises:
            OutputError: If it was written by a newer version.
        """
        if data["format"] != _FORMAT:
            raise OutputError(f"the plan has format {data['format']}, expected {_FORMAT}; use a newer cvbatch")
        return Plan(
            nonce=data["nonce"],
            rows=data["rows"],
            parts=tuple(data["parts"]),
            complete=data["complete"],
            identity=data["identity"],
            job=data["job"],
            models=tuple(ModelSpec.from_json(model) for model in data["models"]),
            skipped=data["skipped"],
            unreadable=tuple(data["unreadable"]),
            pythonpath=data["pythonpath"],
        )

    def carried(self, store: Store) -> list[pa.Field]:
        """Columns that come along from the source."""
        ours = {ROW_ID, *(column.name for column in ENTRY_FIELDS)}
        with store.open(self.parts[0]["path"]) as file:
            return [column for column in pq.read_schema(file) if column.name not in ours]


def load_plan(store: Store) -> Plan | None:
    """Return the plan of an output, or None if there is none yet."""
    try:
        return Plan.from_json(json.loads(store.read(PLAN)))
    except FileNotFoundError:
        return None


def open_run(output: Place | str) -> tuple[Store, Plan]:
    """Return the store and the plan of an output that must hold a run.

    Raises:
        OutputError: If there is no run.
    """
    store = open_store(output)
    plan = load_plan(store)
    if plan is None:
        raise OutputError(f"{output} holds no run; expected the output of cvbatch run")
    return store, plan


def make_plan(
    store: Store, job: Job, models: Sequence[ModelSpec], source: Source, *, pythonpath: str | None = None
) -> Plan:
    """List the source and create the plan; if somebody else was faster, theirs is taken.

    Raises:
        SourceError: If there is not a single image, or a column that comes along has the name of a model's.
        OutputError: If the output holds data without a plan.
    """
    if store.sizes(DATA) and load_plan(store) is None:
        raise OutputError(f"{store.root}/{DATA} is not empty but there is no plan; choose another output")
    store.check()
    predictions_schema(
        [column for model in models for column in model.fields()], exif=job.source.exif, carried=source.carried
    )
    nonce = uuid.uuid4().hex
    parts, complete = write_parts(store, source, first_row_id=0, limit=job.source.limit)
    if not parts:
        raise SourceError(f"{job.source.uri} holds no images{_skipped_note(source)}")
    data = {
        "format": _FORMAT,
        "nonce": nonce,
        "created_at": time.time(),
        "rows": sum(part["rows"] for part in parts),
        "parts": parts,
        "complete": complete,
        "identity": job.identity(),
        "job": job.model_dump(mode="json", by_alias=True),
        "models": [model.to_json() for model in models],
        "skipped": dict(source.listing.skipped),
        "unreadable": source.listing.troubles,
        "pythonpath": pythonpath,
    }
    create_surely(store, PLAN, json.dumps(data).encode())
    plan = Plan.from_json(json.loads(store.read(PLAN)))
    if plan.nonce != nonce:
        for part in parts:
            store.delete(part["path"])
        check_job(store, plan, job)
    return plan


def write_parts(
    store: Store,
    source: Source,
    *,
    first_row_id: int,
    limit: int | None,
    known: frozenset[bytes] = frozenset(),
) -> tuple[list[dict[str, Any]], bool]:
    """List the source into plan parts.

    Args:
        store: The output.
        source: What to list.
        first_row_id: Row id of the first new image.
        limit: End when so many rows are planned in all.
        known: What the images that are planned already are known by.

    Returns:
        The parts, and whether the listing came to its end.
    """
    parts: list[dict[str, Any]] = []
    row_id = first_row_id
    position = 0
    for chunk in source.chunks():
        seen, position = position, position + chunk.num_rows
        if source.numbered:
            chunk = chunk.slice(max(0, first_row_id - seen))
        elif known:
            chunk = chunk.filter(pa.array([key not in known for key in known_as(chunk)]))
        room = chunk.num_rows if limit is None else min(chunk.num_rows, limit - row_id)
        if room:
            parts.append(add_part(store, chunk.slice(0, room), row_id))
            row_id += room
        if room < chunk.num_rows:
            return parts, False
    return parts, True


def add_part(store: Store, images: pa.Table, first_row_id: int) -> dict[str, Any]:
    """Write new images as a part whose row ids begin with `first_row_id`."""
    row_ids = pa.array(range(first_row_id, first_row_id + images.num_rows), pa.int64())
    path = write_part(store, images.add_column(0, ROW_ID, row_ids))
    return {"path": path, "first_row_id": first_row_id, "rows": images.num_rows}


def write_part(store: Store, table: pa.Table) -> str:
    """Write rows of the plan, in the order of their row ids; returns the name, which nobody else has."""
    path = f"{_PARTS}/{uuid.uuid4().hex}.parquet"
    store.add_file(path, partial(_write, table))
    return path


def planned_images(store: Store, parts: Sequence[Part]) -> frozenset[bytes]:
    """What every planned image is known by."""
    columns = ["image_uri", LOCATION, SPAN]
    return frozenset(key for part in parts for key in known_as(read_part(store, part, columns)))


def all_parts(plan: Plan, state: State) -> list[Part]:
    """Every part of a plan; of those that tell of the same row, the newest comes first."""
    return [*reversed(state.changed), *plan.parts, *state.parts]


def ranges_in(part: Part) -> list[Range]:
    """The row ids of a part, in order."""
    if "ranges" in part:
        return [(low, high) for low, high in part["ranges"]]
    return [(part["first_row_id"], part["first_row_id"] + part["rows"])]


def read_part(store: Store, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one part of the plan; columns that an earlier version did not write are left out."""
    with store.open(part["path"]) as file:
        return pq.ParquetFile(file).read(columns=columns)


def check_job(store: Store, plan: Plan, job: Job) -> None:
    """Refuse another job on the same output.

    Raises:
        OutputError: Naming the differences.
    """
    _refuse(store, plan.identity, job.identity())


def check_models(store: Store, plan: Plan, models: Sequence[ModelSpec]) -> None:
    """Refuse the same job with other weights, categories or preprocessing.

    Raises:
        OutputError: Naming the differences.
    """
    there, asked = ({model.alias: model.to_json() for model in some} for some in (plan.models, models))
    _refuse(store, there, asked)


def _refuse(store: Store, there: Any, asked: Any) -> None:
    differences = list(_differences("", json.loads(json.dumps(there)), json.loads(json.dumps(asked))))
    if differences:
        raise OutputError(f"{store.root} belongs to another run: {'; '.join(differences[:5])}; choose another output")


def _differences(path: str, there: Any, asked: Any) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(asked, dict):
        for key in {**there, **asked}:
            yield from _differences(f"{path}.{key}".lstrip("."), there.get(key), asked.get(key))
    elif isinstance(there, list) and isinstance(asked, list) and len(there) == len(asked):
        for index, pair in enumerate(zip(there, asked, strict=True)):
            yield from _differences(f"{path}.{index}", *pair)
    elif there != asked:
        yield f"{path} is {_short(there)} there, {_short(asked)} asked"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _write(table: pa.Table, local: str) -> None:
    pq.write_table(table, local, compression="zstd", row_group_size=_ROW_GROUP)


def _skipped_note(source: Source) -> str:
    skipped, unreadable = source.listing.skipped, source.listing.unreadable
    if unreadable:
        path, why = next(iter(unreadable.items()))
        return f"; {path} cannot be read: {why}"
    if not skipped:
        return ""
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in skipped.most_common(5))
    hint = "" if skipped.keys() <= set(REASONS) else "; source.extensions: any takes all"
    return f" (other files skipped: {kinds}{hint})"
