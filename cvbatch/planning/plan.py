"""The plan: the immutable list of all images of a run, with a dense `row_id` for each."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

import pyarrow as pa
from pydantic import PlainSerializer, PlainValidator

from cvbatch.config.job import Job
from cvbatch.errors import CvbatchError, OtherModelsError, OutputError, SourceError
from cvbatch.models import own_files
from cvbatch.models.backends import backend_of
from cvbatch.models.spec import ModelSpec, rows_schema_of_source
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.log_records import RunState
from cvbatch.output.manifest import DATA_FOLDER
from cvbatch.output.store import TRAINING_FOLDER, LocalStore, Store, create_with_retries, open_store
from cvbatch.planning.differences import list_differences
from cvbatch.planning.listing_checkpoint import ListingCheckpoint
from cvbatch.planning.parts import Part, open_part, write_chunks_as_parts
from cvbatch.schema import ROW_ID
from cvbatch.sources.entries import ENTRY_FIELDS, ImageSource
from cvbatch.sources.filters import REASONS
from cvbatch.storage.location import Location
from cvbatch.system.formats import RecordFormat

PLAN_FILE = "_cvbatch/plan.json"
EVOLVED_PREFIX: Final = "_cvbatch/plan-"
_DATASETS_CONFIG_FILE: Final = ".huggingface.yaml"
"""Tells `datasets.load_dataset(OUTPUT)` where the predictions are; without it, all files of the folder are read."""


_Model = Annotated[ModelSpec, PlainValidator(ModelSpec.from_json), PlainSerializer(ModelSpec.to_json)]
"""A model spec, which is stored with a format number of its own."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Content of `plan.json`."""

    nonce: str
    rows: int
    parts: tuple[Part, ...]
    identity: Mapping[str, Any]
    job: Mapping[str, Any]
    models: tuple[_Model, ...]
    complete: bool = True
    """Whether the listing reached the end of the source; False if a limit ended it."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    pythonpath: str | None = None
    """Folder that `python:` models are imported from."""
    created_at: float = 0.0
    """Seconds since 1970."""
    file: str = PLAN_FILE
    """Its name in the output; another one once the models have changed."""
    earlier_models: tuple[Mapping[str, Any], ...] = ()
    """Models that the run had before, oldest first: `models`, and `until`, in seconds since 1970."""

    def extra_columns(self, store: Store) -> list[pa.Field]:
        """Columns of the source that are copied to the predictions."""
        own_columns = {ROW_ID, *(column.name for column in ENTRY_FIELDS)}
        path = self.parts[0]["path"]
        with store.open_object(path) as file:
            schema = open_part(file, f"{store.root}/{path}").schema_arrow
        return [column for column in schema if column.name not in own_columns]


PLAN_FORMAT: Final = RecordFormat("plan", Plan, minor=1)


def load_plan(store: Store) -> Plan | None:
    """Return the plan of an output with its current models, or None if there is none yet."""
    try:
        plan = _read_plan(store, PLAN_FILE)
    except FileNotFoundError:
        return None
    if not any(name.startswith(EVOLVED_PREFIX) for name in store.list_sizes(PLAN_FILE.rpartition("/")[0])):
        return plan
    plan_file = CommitLog(store, plan.rows).state.plan_file
    return plan if plan_file is None else _read_plan(store, plan_file)


def _read_plan(store: Store, name: str) -> Plan:
    return PLAN_FORMAT.decode_record(store.read_object(name), f"{store.root}/{name}")


def open_run(output: Location | str) -> tuple[Store, Plan]:
    """Return the store and the plan of an output that must hold a run.

    Raises:
        OutputError: If there is no run.
    """
    store = open_store(output)
    plan = load_plan(store)
    if plan is None:
        is_missing = isinstance(store, LocalStore) and not os.path.lexists(store.root)
        what = "does not exist" if is_missing else "holds no run"
        raise OutputError(f"{output} {what}; expected the output of cvbatch run")
    return store, plan


def make_plan(
    store: Store, job: Job, models: Sequence[ModelSpec], source: ImageSource, *, pythonpath: str | None = None
) -> Plan:
    """List the source and create the plan; if another attempt creates one first, return that.

    Resumes the listing of an earlier attempt that was killed before it created a plan.

    Raises:
        SourceError: If there are no images, or an extra column has the name of a model's column.
        OutputError: If the output holds data without a plan.
    """
    if store.list_sizes(TRAINING_FOLDER):
        raise OutputError(f"{store.root} is the output of a training: give it as --model, and choose another output")
    if store.list_sizes(DATA_FOLDER) and load_plan(store) is None:
        raise OutputError(f"{store.root}/{DATA_FOLDER} is not empty, but there is no plan; choose another output")
    rows_schema_of_source(models, job.source, source.extra_columns)
    progress = ListingCheckpoint(store, job.source, source)
    partial = progress.load_partial(job.source.limit)
    parts, complete = write_chunks_as_parts(
        store, progress.remaining_chunks(partial), job.source.limit, partial.parts, progress.save_checkpoint
    )
    if sum(part["rows"] for part in parts) <= source.listing.lost:
        with contextlib.suppress(CvbatchError):  # a first run does not need permission to delete
            for part in parts:
                store.delete_object(part["path"])
        raise SourceError(f"{', '.join(job.source.uris)} holds no images{_skipped_note(source)}")
    own_plan = Plan(
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
    create_with_retries(store, PLAN_FILE, PLAN_FORMAT.encode_record(own_plan))
    plan = _read_plan(store, PLAN_FILE)
    progress.delete_checkpoint()
    store.put_object(
        _DATASETS_CONFIG_FILE, f'configs:\n- config_name: default\n  data_files: "{DATA_FOLDER}/*.parquet"\n'.encode()
    )
    if plan.nonce != own_plan.nonce:
        named_paths = {part["path"] for part in plan.parts}  # both plans may share parts of one resumed listing
        for part in parts:
            if part["path"] not in named_paths:
                store.delete_object(part["path"])
        check_same_job(store, plan.identity, job)
    return plan


def all_plan_parts(plan: Plan, state: RunState) -> list[Part]:
    """All plan parts; if several have the same row, the newest comes first."""
    return [*reversed(state.changed), *plan.parts, *state.parts]


def check_same_job(store: Store, identity: Mapping[str, Any], job: Job) -> None:
    """Check that a job is that of the run in the output.

    Args:
        store: The output.
        identity: Identity of the run, with the current locations of its sources.
        job: The requested job.

    Raises:
        OutputError: Names the differences.
    """
    requested_identity = job.identity()
    stored, requested = (job.with_defaults(data) for data in (identity, requested_identity))
    differences = list_differences(_identity_by_content(stored), _identity_by_content(requested))
    advice, only_models = "", all(difference.startswith("models") for difference in differences)
    if differences and all(difference.startswith("source.uri") for difference in differences):
        uris, requested_uris = (uris_as_list(data["source"]["uri"]) for data in (identity, requested_identity))
        advice = _moved_source_advice(uris, requested_uris)
    _refuse_differences(store, differences, advice, kind=OtherModelsError if only_models else OutputError)


def _moved_source_advice(uris: Sequence[str], requested_uris: Sequence[str]) -> str:
    """What to do if only the locations of the sources differ."""
    if sorted(uris) == sorted(requested_uris):
        return f", or name the sources in their order: {', '.join(uris)}"
    if len(uris) != len(requested_uris):
        return ""
    options = " ".join(f"--moved-from {old}" for old, new in zip(uris, requested_uris, strict=True) if old != new)
    return f", or add {options} if these are the same images"


def uris_as_list(uri: str | list[str]) -> list[str]:
    """The locations of a source as an identity names them: one, or several in their order."""
    return [uri] if isinstance(uri, str) else uri


def check_same_models(
    store: Store,
    plan: Plan,
    models: Sequence[ModelSpec],
    earlier_files: Mapping[str, Mapping[str, str]] | None = None,
    *,
    loaded: bool = True,
) -> None:
    """Check that weights, files, categories and preprocessing of the models are the same; locations may differ.

    Args:
        store: The output.
        plan: Plan of the run.
        models: The current models.
        earlier_files: Files of each model as the last attempt saw them, by alias; for plans of versions that did not
            record files.
        loaded: Whether models that must be loaded to be described are complete; if not, only known facts are compared.

    Raises:
        OutputError: Names the differences.
    """
    if len(models) != len(plan.models):
        raise OtherModelsError(
            f"{store.root} belongs to another run, of {len(plan.models)} models: choose another output"
        )
    for planned, requested in zip(plan.models, models, strict=True):
        files = planned.files or (earlier_files or {}).get(planned.alias, {})
        if planned.options != requested.options:  # files in options may be renamed; their content is compared below
            files = own_files.without_options(files, planned.options)
        if (name := own_files.first_changed_file(files, requested.files)) is not None:
            change = "has changed" if name in requested.files else "is missing"
            raise OtherModelsError(
                f"{store.root} belongs to another run: {name} of the model {planned.alias} {change}, in "
                f"{requested.folder or 'the current folder'}: restore it, or choose another output"
            )
        specs = _comparable_specs(planned, requested, loaded=loaded)
        stored, current = ({planned.alias: data} for data in specs)
        _refuse_differences(store, list_differences(stored, current), kind=OtherModelsError)


_LOCATION_KEYS = ("checkpoint", "categories", "background", "sha256", "prompts", "template", "options")
"""Keys of a model in the job that may name files; the content is compared in its `ModelSpec`."""


def _identity_by_content(identity: Mapping[str, Any]) -> dict[str, Any]:
    models = [{key: value for key, value in model.items() if key not in _LOCATION_KEYS} for model in identity["models"]]
    return {**identity, "models": models}


def _comparable_specs(planned: ModelSpec, requested: ModelSpec, *, loaded: bool) -> Iterator[dict[str, Any]]:
    """Both specs as JSON, without locations, and limited to facts that are known of both."""
    for model in (planned, requested):
        data = replace(model, weights_path=None, weights_storage=None, folder=None, files={}).to_json()
        if planned.options != requested.options:
            data["options"] = own_files.comparable_options(model.options, model.files)
        yield data if loaded else backend_of(requested).known_before_probe(requested, data)


def _refuse_differences(
    store: Store, differences: Sequence[str], advice: str = "", *, kind: type[OutputError] = OutputError
) -> None:
    if differences:
        first_differences = "; ".join(differences[:5])
        raise kind(f"{store.root} belongs to another run: {first_differences}; choose another output{advice}")


def _skipped_note(source: ImageSource) -> str:
    skipped, unreadable = source.listing.skipped, source.listing.unreadable
    if unreadable:
        path, reason = next(iter(unreadable.items()))
        return f"; {path} cannot be read: {reason}"
    if not skipped:
        return ""
    counts = ", ".join(f"{count} {suffix}" for suffix, count in skipped.most_common(5))
    hint = "" if skipped.keys() <= set(REASONS) else "; source.extensions: any takes all"
    return f" (other files skipped: {counts}{hint})"
