"""The result of a training: a folder that `cvbatch run --model FOLDER` takes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pv

from cvbatch.config.model_files import TRAINED_FILE
from cvbatch.config.train_job import TrainJob
from cvbatch.models.trained import TRAINED_MODEL, TrainedModel
from cvbatch.output.store import Store
from cvbatch.schema import IMAGE_URI, LOCATION, SPAN
from cvbatch.training.card import CURVES_FILE, write_card
from cvbatch.training.curves import draw_curves
from cvbatch.training.judging import Judgement
from cvbatch.training.log import TrainingState
from cvbatch.training.plan import IS_VALIDATION, TrainingPlan, read_planned_images

WEIGHTS_FILE: Final = "weights.safetensors"
CARD_FILE: Final = "README.md"
VALIDATION_FILE: Final = "validation.csv"
"""The validation images, as a source of `cvbatch run`."""


def write_result(store: Store, plan: TrainingPlan, state: TrainingState) -> None:
    """Write the best weights and the description of the model, which comes last; what is there already stays.

    Args:
        store: The output.
        plan: Of the training.
        state: With the best epoch.
    """
    best = state.best
    assert best is not None, "a finished training has a best epoch"
    description = TRAINED_MODEL.encode_record(describe_result(plan, best))
    if _read(store, TRAINED_FILE) == description:
        return
    store.put_object(WEIGHTS_FILE, store.read_object(best["weights"]))
    listed = _list_validation(store, plan)
    if listed is not None:
        store.put_object(VALIDATION_FILE, listed)
    store.put_object(TRAINED_FILE, description)


def write_description(
    store: Store, plan: TrainingPlan, state: TrainingState, job: TrainJob, judgement: Judgement
) -> dict[str, bytes]:
    """Write the curves and the model card; returns the files by name.

    Args:
        store: The output.
        plan: Of the training.
        state: With the best epoch and the history.
        job: With what the user says of the model.
        judgement: How good the result is.
    """
    picture = draw_curves(state)
    card = write_card(plan, state, job, judgement, curves=picture is not None)
    files = {CARD_FILE: card.encode(), **({} if picture is None else {CURVES_FILE: picture})}
    for name, content in files.items():
        store.put_object(name, content)
    return files


def _list_validation(store: Store, plan: TrainingPlan) -> bytes | None:
    """The validation images as a manifest; None if some of them are parts of archives or tables."""
    images = read_planned_images(store, plan)
    chosen = images.filter(images[IS_VALIDATION])
    if chosen[SPAN].null_count < chosen.num_rows or chosen[LOCATION].null_count < chosen.num_rows:
        return None
    file = io.BytesIO()
    pv.write_csv(pa.table({"uri": chosen[IMAGE_URI]}), file)
    return file.getvalue()


def _read(store: Store, name: str) -> bytes | None:
    try:
        return store.read_object(name)
    except FileNotFoundError:
        return None


def describe_result(plan: TrainingPlan, best: Mapping[str, Any]) -> TrainedModel:
    """The description of the model.

    Args:
        plan: Of the training.
        best: The best epoch; see `TrainingState.best`.
    """
    return TrainedModel(
        model=plan.start.name,
        task=plan.start.task,
        categories=plan.categories,
        view=plan.start.view,
        weights=WEIGHTS_FILE,
        sha256=best["sha256"],
        licence=plan.start.licence,
        scores=best["scores"],
        trained_on=plan.data_sha256,
        start=replace(plan.start, weights_storage=None, folder=None).to_short_json(),
    )
