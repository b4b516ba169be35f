"""How good the result of a training is: metrics of its validation images with intervals, by `cvbatch.evaluation`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cvbatch.config.train_job import TrainJob
from cvbatch.errors import CvbatchError
from cvbatch.evaluation.evaluate import evaluate
from cvbatch.evaluation.report import Metrics
from cvbatch.output.store import Store
from cvbatch.results.committed import OpenedOutput
from cvbatch.training.plan import TrainingPlan
from cvbatch.training.validation_run import MOST_IMAGES, label_validation


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the answers to the validation images are worth."""

    opened: OpenedOutput | None = None
    """The run over the validation images; None if they could not be labelled."""
    metrics: Mapping[str, Metrics] = field(default_factory=dict)
    """By what was judged; see `EvaluationReport.metrics`."""
    notes: tuple[str, ...] = ()
    """What is missing, and why."""


def judge_result(
    store: Store, plan: TrainingPlan, best: Mapping[str, Any], job: TrainJob, report: Callable[[str], None]
) -> Judgement:
    """Label the validation images with the result, and evaluate the answers; nothing that fails here loses the result.

    Args:
        store: The output of the training; the result is written.
        plan: Of the training.
        best: The best epoch.
        job: Says where the truth is.
        report: Receives phrases about the progress.
    """
    try:
        opened = label_validation(store, plan, best, report)
    except (CvbatchError, OSError) as error:
        return Judgement(notes=(f"the validation images could not be labelled again: {error}",))
    notes: tuple[str, ...] = ()
    if plan.validated > MOST_IMAGES:
        notes = (f"intervals and pictures are of the first {MOST_IMAGES:,} of {plan.validated:,} validation images",)
    truth = job.truth
    try:
        answer = evaluate(
            opened.location,
            truth.location,
            image_column=truth.image_column,
            label_column=truth.label_column,
            ignored_value=truth.ignored_value,
        )
    except (CvbatchError, OSError) as error:
        return Judgement(opened=opened, notes=(*notes, f"the truth could not be read again: {error}"))
    return Judgement(opened=opened, metrics=answer.metrics, notes=notes)
