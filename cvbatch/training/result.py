"""The result of a training: a folder that `cvbatch run --model FOLDER` takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from cvbatch.config.model_files import TRAINED_FILE
from cvbatch.models.trained import TRAINED_MODEL, TrainedModel
from cvbatch.output.store import Store
from cvbatch.training.card import write_card
from cvbatch.training.log import TrainingState
from cvbatch.training.plan import TrainingPlan

WEIGHTS_FILE: Final = "weights.safetensors"
CARD_FILE: Final = "README.md"


def write_result(store: Store, plan: TrainingPlan, state: TrainingState) -> None:
    """Write the best weights, the description of the model and its card; the description comes last.

    Args:
        store: The output.
        plan: Of the training.
        state: With the best epoch.
    """
    best = state.best
    assert best is not None, "a finished training has a best epoch"
    store.put_object(WEIGHTS_FILE, store.read_object(best["weights"]))
    store.put_object(CARD_FILE, write_card(plan, state).encode())
    store.put_object(TRAINED_FILE, TRAINED_MODEL.encode_record(describe_result(plan, best)))


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
