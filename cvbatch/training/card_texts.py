"""Sentences of a model card that follow from the data: what a model is for, and where it must be doubted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cvbatch.config.train_job import TrainJob
from cvbatch.tasks import CLASSIFICATION, DETECTION, SEGMENTATION
from cvbatch.training.plan import TrainingPlan

_MOST_NAMES: Final = 20
_FEW: Final = 50
"""Examples of a class below which its numbers say little."""
_FEW_IMAGES: Final = 500
"""Validation images below which intervals are wide."""
_VERBS: Final = {
    CLASSIFICATION.name: "It says which of {count} classes an image shows: {names}.",
    DETECTION.name: "It finds objects of {count} classes in an image: {names}.",
    SEGMENTATION.name: "It says which of {count} classes each pixel of an image shows: {names}.",
}
_ALWAYS: Final = {
    CLASSIFICATION.name: "Every image gets one of the classes, also an image that shows none of them.",
    DETECTION.name: "Objects of other classes are not seen, or are taken for one of these.",
    SEGMENTATION.name: "Every pixel gets one of the classes, also where it shows none of them.",
}


def describe_use(plan: TrainingPlan) -> str:
    """What the model is for, if the user does not say it."""
    names = ", ".join(list(plan.counts)[:_MOST_NAMES])
    more = len(plan.counts) - _MOST_NAMES
    text = _VERBS[plan.start.task].format(
        count=len(plan.counts), names=names + (f" and {more:,} more" if more > 0 else "")
    )
    return f"{text} It is meant for images like those it learned from."


def describe_limits(plan: TrainingPlan, best: Mapping[str, Any], job: TrainJob) -> list[str]:
    """Where the model must be doubted; what the user says comes first."""
    sentences = [job.card.limits] if job.card.limits else []
    sentences += [
        _ALWAYS[plan.start.task],
        f"The validation images have chosen the epoch ({best['epoch']}), so its numbers are a little too good; "
        "`cvbatch evaluate` with other images says more.",
        "Images from other cameras, places or times than those it learned from may be answered worse; "
        "`cvbatch drift` measures how different they are.",
    ]
    few = [name for name, count in plan.counts.items() if count < _FEW]
    if few:
        names = ", ".join(few[:_MOST_NAMES]) + (" and others" if len(few) > _MOST_NAMES else "")
        sentences.append(f"Classes with fewer than {_FEW} examples, of which the numbers say little: {names}.")
    if plan.validated < _FEW_IMAGES:
        sentences.append(f"{plan.validated:,} validation images are few: the intervals are wide.")
    return sentences
