"""The network that a training starts with, and what it sees of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cvbatch.config.train_job import TrainJob
from cvbatch.errors import JobError
from cvbatch.images.preprocess import View
from cvbatch.models.backends import BACKENDS
from cvbatch.models.backends.embedded import EMBEDDED
from cvbatch.models.backends.torchvision import TORCHVISION
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import CLASSIFICATION, TASKS
from cvbatch.training.targets import TARGET_KINDS

_TRAINABLE: Final = {
    EMBEDDED.name: (CLASSIFICATION.name,),
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
        kinds = [kind for kind, tasks in _TRAINABLE.items() if job.task in tasks]
        examples = [name for kind in kinds for name in list(BACKENDS[kind].model_names())[:3]]
        raise JobError(
            f"model: {job.model.model} cannot learn {job.task}; expected a model such as {', '.join(examples)}"
        )
    return replace(spec, view=sized_view(spec.view, job.image_size))


def sized_view(view: View, longer_side: int | None) -> View:
    """A view of another size, with the same margin around its crop.

    Args:
        view: Of the published weights.
        longer_side: Pixels of the longer side of the crop or frame; None keeps the view.

    Raises:
        JobError: If the view has no size that could be changed.
    """
    if longer_side is None:
        return view
    if view.crop is None or not isinstance(view.resize, int):
        raise JobError("image_size: belongs to models that see a crop of a fixed size: leave it out")
    factor = longer_side / max(view.crop)
    height, width = (round(side * factor) for side in view.crop)
    return replace(view, resize=round(view.resize * factor), crop=(height, width))


def has_own_head(start: ModelSpec, categories: tuple[str, ...]) -> bool:
    """Whether the classes are those of the weights that a training starts with, so that its head is kept."""
    return bool(TASKS[start.task].has_labels and start.weights_path and tuple(start.categories) == tuple(categories))
