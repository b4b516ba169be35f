"""The plan: the immutable list of all images of a run, with a dense `row_id` for each."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

import pyarrow as pa
from pydantic import PlainSerializer, PlainValidator

from cvbatch.config.job import Job
from cvbatch.errors import CvbatchError, OutputError, SourceError
from cvbatch.models import own_files
from cvbatch.models.backends import backend_of
from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.log_records import RunState
from cvbatch.output.manifest import DATA_FOLDER
from cvbatch.output.store import Store, create_with_retries, open_store
from cvbatch.planning.listing_checkpoint import ListingProgress
from cvbatch.planning.parts import Part, open_part, write_chunks_as_parts
from cvbatch.schema import ROW_ID
from cvbatch.sources.entries import ENTRY_FIELDS, ImageSource
from cvbatch.sources.filters import REASONS
from cvbatch.storage.location import Location
from cvbatch.system.formats import RecordFormat

PLAN_FILE = "_cvbatch/plan.json"
_DATASETS_CONFIG_FILE: Final = ".huggingface.yaml"
"""Tells `datasets.load_dataset(OUTPUT)` where the rows are; by itself it would read whatever lies in the folder."""


_Model = Annotated[ModelSpec, PlainValidator(ModelSpec.from_json), PlainSerializer(ModelSpec.to_json)]
"""With its own format."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run's `plan.json`."""

    nonce: str
    rows: int
    parts: tuple[Part, ...]
    identity: Mapping[str, Any]
    job: Mapping[str, Any]
    models: tuple[_Model, ...]
    complete: bool = True
    """False if a limit ended the listing."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    pythonpath: str | None = None
    """Folder that `python:` models are imported from."""
    created_at: float = 0.0
    """Seconds since 1970."""

    def extra_columns(self, store: Store) -> list[pa.Field]:
        """Columns that come along from the source."""
        ours = {ROW_ID, *(column.name for column in ENTRY_FIELDS)}
        path = self.parts[0]["path"]
        with store.open_object(path) as file:
            schema = open_part(file, f"{store.root}/{path}").schema_arrow
        return [column for column in schema if column.name not in ours]


_PLAN: Final = RecordFormat("plan", Plan)


def load_plan(store: Store) -> Plan | None:
    """Return the plan of an output, or None if there is none yet."""
    try:
        return _PLAN.decode_record(store.read_object(PLAN_FILE), f"{store.root}/{PLAN_FILE}")
    except FileNotFoundError:
        return None


def open_run(output: Location | str) -> tuple[Store, Plan]:
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
    store: Store, job: Job, models: Sequence[ModelSpec], source: ImageSource, *, pythonpath: str | None = None
) -> Plan:
    """List the source and create the plan; if somebody else was faster, theirs is taken.

    Where an earlier start was killed before it had a plan, its listing is gone on with.

    Raises:
        SourceError: If there is not a single image, or a column that comes along has the name of a model's.
        OutputError: If the output holds data without a plan.
    """
    if store.list_sizes(DATA_FOLDER) and load_plan(store) is None:
        raise OutputError(f"{store.root}/{DATA_FOLDER} is not empty but there is no plan; choose another output")
    rows_schema(models, exif=job.source.exif, warnings=job.source.keeps_damaged, extra_columns=source.extra_columns)
    progress = ListingProgress(store, job.source, source)
    begun = progress.load_partial(job.source.limit)
    parts, complete = write_chunks_as_parts(
        store, progress.remaining_chunks(begun), job.source.limit, begun.parts, progress.save_checkpoint
    )
    if sum(part["rows"] for part in parts) <= source.listing.lost:
        with contextlib.suppress(CvbatchError):  # a first run needs no right to delete
            for part in parts:
                store.delete_object(part["path"])
        raise SourceError(f"{', '.join(job.source.uris)} holds no images{_skipped_note(source)}")
    ours = Plan(
        nonce=uuid.uuid4().hex,
        created_at=time.time(),
        rows=sum(part["rows"] for part in parts),
        parts=tuple(parts),
        complete=complete,
        identity=job.identity(),
        job=job.model_dump(mode="json", by_alias=True),
        models=tuple(models),
        skipped=dict(source.listing.skipped),
        unreadable=tuple(source.listing.unreadable_notes),
        pythonpath=pythonpath,
    )
    create_with_retries(store, PLAN_FILE, _PLAN.encode_record(ours))
    plan = _PLAN.decode_record(store.read_object(PLAN_FILE), f"{store.root}/{PLAN_FILE}")
    progress.delete_checkpoint()
    store.put_object(
        _DATASETS_CONFIG_FILE, f'configs:\n- config_name: default\n  data_files: "{DATA_FOLDER}/*.parquet"\n'.encode()
    )
    if plan.nonce != ours.nonce:
        theirs = {part["path"] for part in plan.parts}  # both may have gone on from the same listing
        for part in parts:
            if part["path"] not in theirs:
                store.delete_object(part["path"])
        check_same_job(store, plan.identity, job)
    return plan


def all_plan_parts(plan: Plan, state: RunState) -> list[Part]:
    """Every part of a plan; of those that tell of the same row, the newest comes first."""
    return [*reversed(state.changed), *plan.parts, *state.parts]


def check_same_job(store: Store, identity: Mapping[str, Any], job: Job) -> None:
    """Refuse another job on the same output.

    Args:
        store: The output.
        identity: Of the run that is there, with its source where that lies by now.
        job: What is asked for.

    Raises:
        OutputError: Naming the differences.
    """
    there, asked = (job.with_defaults(each) for each in (identity, job.identity()))
    differences = _list_differences(_identity_by_content(there), _identity_by_content(asked))
    moved = ""
    if differences and all(each.startswith("source.uri") for each in differences):
        moved = _moved_source_advice(*(_uris_as_list(each["source"]["uri"]) for each in (identity, job.identity())))
    _refuse_differences(store, differences, moved)


def _moved_source_advice(there: Sequence[str], asked: Sequence[str]) -> str:
    """What to do where nothing but the places of the sources differs."""
    if sorted(there) == sorted(asked):
        return f", or name the sources in their order: {', '.join(there)}"
    if len(there) != len(asked):
        return ""
    options = " ".join(f"--moved-from {old}" for old, new in zip(there, asked, strict=True) if old != new)
    return f", or add {options} if these are the same images"


def _uris_as_list(uri: str | list[str]) -> list[str]:
    return [uri] if isinstance(uri, str) else uri


def check_same_models(
    store: Store,
    plan: Plan,
    models: Sequence[ModelSpec],
    before: Mapping[str, Mapping[str, str]] | None = None,
    *,
    loaded: bool = True,
) -> None:
    """Refuse the same job with other weights, files, categories or preprocessing; where they lie is of no account.

    Args:
        store: Of the run.
        plan: Of the run.
        models: As they are now.
        before: By alias, files of models as the last start saw them, for plans of versions that did not look.
        loaded: Whether those that only loading can describe are complete; else what is known of them is compared.

    Raises:
        OutputError: Naming the differences.
    """
    if len(models) != len(plan.models):
        raise OutputError(f"{store.root} belongs to another run, of {len(plan.models)} models: choose another output")
    for planned, asked in zip(plan.models, models, strict=True):
        known = planned.files or (before or {}).get(planned.alias, {})
        if planned.options != asked.options:  # what their files hold is compared below, whatever they are called now
            known = own_files.without_options(known, planned.options)
        if (name := own_files.first_changed_file(known, asked.files)) is not None:
            what = "has changed" if name in asked.files else "is gone"
            raise OutputError(
                f"{store.root} belongs to another run: {name} of the model {planned.alias} {what} since then, in "
                f"{asked.folder or 'the current folder'}: put it back, or choose another output"
            )
        there, now = ({planned.alias: data} for data in _comparable_specs(planned, asked, loaded=loaded))
        _refuse_differences(store, _list_differences(there, now))


_LOCATION_KEYS = ("checkpoint", "categories", "background", "sha256", "options")
"""Keys of a model in a job that say where things are; what they hold is compared in its `ModelSpec`."""


def _identity_by_content(identity: Mapping[str, Any]) -> dict[str, Any]:
    models = [{key: value for key, value in model.items() if key not in _LOCATION_KEYS} for model in identity["models"]]
    return {**identity, "models": models}


def _comparable_specs(planned: ModelSpec, asked: ModelSpec, *, loaded: bool) -> Iterator[dict[str, Any]]:
    """What two models are, as far as it is known of both, without the way to it."""
    for model in (planned, asked):
        data = replace(model, weights_path=None, weights_storage=None, folder=None, files={}).to_json()
        if planned.options != asked.options:
            data["options"] = own_files.comparable_options(model.options, model.files)
        yield data if loaded else backend_of(asked).known_before_probe(asked, data)


def _refuse_differences(store: Store, differences: Sequence[str], otherwise: str = "") -> None:
    if differences:
        some = "; ".join(differences[:5])
        raise OutputError(f"{store.root} belongs to another run: {some}; choose another output{otherwise}")


def _list_differences(there: Any, asked: Any) -> list[str]:
    return list(_iter_differences("", json.loads(json.dumps(there)), json.loads(json.dumps(asked))))


def _iter_differences(path: str, there: Any, asked: Any) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(asked, dict):
        for key in {**there, **asked}:
            yield from _iter_differences(f"{path}.{key}".lstrip("."), there.get(key), asked.get(key))
    elif isinstance(there, list) and isinstance(asked, list) and len(there) == len(asked):
        for index, pair in enumerate(zip(there, asked, strict=True)):
            yield from _iter_differences(f"{path}.{index}", *pair)
    elif there != asked:
        yield f"{path} is {_shorten_value(there)} there, {_shorten_value(asked)} asked"


def _shorten_value(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _skipped_note(source: ImageSource) -> str:
    skipped, unreadable = source.listing.skipped, source.listing.unreadable
    if unreadable:
        path, why = next(iter(unreadable.items()))
        return f"; {path} cannot be read: {why}"
    if not skipped:
        return ""
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in skipped.most_common(5))
    hint = "" if skipped.keys() <= set(REASONS) else "; source.extensions: any takes all"
    return f" (other files skipped: {kinds}{hint})"
