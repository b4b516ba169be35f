"""The plan of a training: its images with their targets, its validation images, and the model it starts with.

It is made once and stored in the output. What is wrong with the data is found here, before anything is learned.
"""

from __future__ import annotations

import hashlib
import io
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cvbatch.config.train_job import TrainJob
from cvbatch.errors import OutputError
from cvbatch.models.spec import ModelSpec
from cvbatch.output.store import TRAINING_FOLDER, Store, create_with_retries
from cvbatch.planning.differences import list_differences
from cvbatch.planning.plan import load_plan
from cvbatch.schema import CONTENT_SHA256
from cvbatch.sources import open_source
from cvbatch.system.formats import RecordFormat
from cvbatch.system.versions import package_versions
from cvbatch.training.data import match_truth, split_columns, split_images
from cvbatch.training.images import GREY, list_images
from cvbatch.training.start import resolve_start
from cvbatch.training.target_column import TARGET
from cvbatch.training.targets import TARGET_KINDS, read_learned_truth

PLAN_FILE: Final = f"{TRAINING_FOLDER}/plan.json"
IS_VALIDATION: Final = "is_validation"
"""Column of the planned images."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What a training is about."""

    nonce: str
    created_at: float
    identity: Mapping[str, Any]
    """See `TrainJob.identity`."""
    job: Mapping[str, Any]
    start: ModelSpec
    """The model with the weights that it starts with; its view is that of the result."""
    categories: tuple[str | None, ...]
    """What the model learns to tell apart, by label id; None at the front is a background."""
    images: str
    """File with the images and their targets."""
    trained: int
    """Images to learn from."""
    validated: int
    """Images for validation."""
    counts: Mapping[str, int]
    """How often each category occurs in all images: images, objects, or pixels."""
    data_sha256: str
    """Of the sorted sha256 sums of all images, one a line: the data has changed if this has."""
    truth_layout: str = ""
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


TRAINING_PLAN: Final = RecordFormat("plan of a training", TrainingPlan)


def load_training_plan(store: Store) -> TrainingPlan | None:
    """The plan of the training in an output, or None if there is none."""
    try:
        return TRAINING_PLAN.decode_record(store.read_object(PLAN_FILE), f"{store.root}/{PLAN_FILE}")
    except FileNotFoundError:
        return None


def read_planned_images(store: Store, plan: TrainingPlan) -> pa.Table:
    """The images of a plan: what is needed to fetch them, `target` and `is_validation`; `row_id` is the position."""
    with store.open_object(plan.images) as file:
        return pq.read_table(file)


def check_same_training(store: Store, plan: TrainingPlan, job: TrainJob) -> None:
    """Check that a job is that of the training in the output.

    Raises:
        OutputError: Names the differences.
    """
    stored = TrainJob.model_validate(dict(plan.job))  # with the defaults of options that came later
    differences = list_differences(stored.identity(), job.identity())
    if differences:
        raise OutputError(
            f"{store.root} belongs to another training: {'; '.join(differences[:5])}; choose another output, or give "
            "the job as it was"
        )


def make_training_plan(store: Store, job: TrainJob, report: Callable[[str], None]) -> TrainingPlan:
    """List the images, read the truth, split, and store the plan; if another attempt stores one first, return that.

    Args:
        store: The output.
        job: The training.
        report: Receives phrases about the progress.

    Raises:
        UsageError: If the model, the source or the truth cannot be used.
        OutputError: If the output holds a run.
    """
    if load_plan(store) is not None:
        raise OutputError(
            f"{store.root} holds predictions of cvbatch run: expected an empty output; choose another one"
        )
    report("getting the model")
    start = resolve_start(job, report)
    kind = TARGET_KINDS[job.task]
    truth = read_learned_truth(job)
    store.check_writable()
    source = open_source(job.source)
    images, notes = list_images(source, job.source, report, split_columns(source, job.split))
    images, positions, match_notes = match_truth(images, truth)
    targets = kind.make(truth, positions, images)
    is_validation = split_images(images, targets, job)
    images = (
        images.drop_columns([GREY])
        .append_column(TARGET, targets.column)
        .append_column(IS_VALIDATION, pa.array(is_validation))
    )
    nonce = uuid.uuid4().hex
    plan = TrainingPlan(
        nonce=nonce,
        created_at=time.time(),
        identity=job.identity(),
        job=job.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        start=start,
        categories=targets.categories,
        images=f"{TRAINING_FOLDER}/images-{nonce}.parquet",
        trained=int((~is_validation).sum()),
        validated=int(is_validation.sum()),
        counts=targets.counts,
        data_sha256=_hash_data(images),
        truth_layout=truth.layout,
        notes=(*notes, *match_notes, *truth.notes, *targets.notes),
        versions=package_versions(),
    )
    return _store_plan(store, plan, images)


def _hash_data(images: pa.Table) -> str:
    lines = "".join(f"{digest}\n" for digest in sorted(images[CONTENT_SHA256].to_pylist()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _store_plan(store: Store, plan: TrainingPlan, images: pa.Table) -> TrainingPlan:
    buffer = io.BytesIO()
    pq.write_table(images, buffer, compression="zstd")
    store.put_object(plan.images, buffer.getvalue())
    if create_with_retries(store, PLAN_FILE, TRAINING_PLAN.encode_record(plan)):
        return plan
    stored = load_training_plan(store)
    assert stored is not None, "another attempt has created it"
    if stored.nonce != plan.nonce:
        store.delete_object(plan.images)
        if list_differences(dict(stored.identity), dict(plan.identity)):
            raise OutputError(
                f"{store.root}: another process has started another training there; choose another output"
            )
    return stored


def planned_sides(images: pa.Table) -> tuple[Sequence[int], Sequence[int]]:
    """Positions of the images to learn from, and of those for validation."""
    is_validation = images[IS_VALIDATION].to_numpy(zero_copy_only=False)
    return np.flatnonzero(~is_validation).tolist(), np.flatnonzero(is_validation).tolist()
