"""The network that a training starts with, and what it sees of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cvbatch.config.train_job import TrainJob
from cvbatch.errors import JobError
from cvbatch.models.backends import BACKENDS
from cvbatch.models.backends.embedded import EMBEDDED
from cvbatch.models.backends.nanodet import NANODET
from cvbatch.models.backends.torchvision import TORCHVISION
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import CLASSIFICATION, DETECTION, TASKS
from cvbatch.training.targets import TARGET_KINDS
from cvbatch.training.views import sized_view

_TRAINABLE: Final = {
    EMBEDDED.name: (CLASSIFICATION.name,),
    NANODET.name: (DETECTION.name,),
    TORCHVISION.name: tuple(TARGET_KINDS),
}
"""Kinds of models that can learn, with the tasks that they can learn; `training.torch.networks` builds them."""


def resolve_start(job: TrainJob, report: Callable[[str], None]) -> ModelSpec:
    """Find the network and its weights.

    Args:
        job: Names them.
        report: Receives the progress of a download.

    Raises:
        UsageError: If there is no such model, or it cannot learn this task.
    """
    if job.task not in TARGET_KINDS:
        raise JobError(f"task: expected one that can be learned, {', '.join(TARGET_KINDS)}; got {job.task}")
    config = job.model.model_copy(update={"task": job.task, "alias": None})
    (spec,) = resolve_models((config,), report=report)
    if job.task not in _TRAINABLE.get(spec.kind, ()):
        raise JobError(f"model: {job.model.model} cannot learn {job.task}; expected {_examples(job.task)}")
    if spec.masks or spec.keypoints:
        raise JobError(
            f"model: {job.model.model} also gives {'masks' if spec.masks else 'keypoints'}, which cannot be learned; "
            f"expected {_examples(job.task)}"
        )
    if spec.view.tiles is not None:
        raise JobError("model: tiles belong to a run: leave them out, and run the result with them")
    return replace(spec, view=sized_view(spec.view, job.image_size, spec.name))


def _examples(task: str) -> str:
    """Some models that can learn a task."""
    names = [
        name
        for kind, tasks in _TRAINABLE.items()
        if task in tasks
        for name in list(dict.fromkeys(row.model for row in BACKENDS[kind].list_rows() if task in row.tasks))[:3]
    ]
    return f"a model such as {', '.join(names)}"


def has_own_head(start: ModelSpec, categories: tuple[str | None, ...]) -> bool:
    """Whether the classes are those of the weights that a training starts with, so that its head is kept."""
    return bool(TASKS[start.task].has_labels and start.weights_path and tuple(start.categories) == tuple(categories))
