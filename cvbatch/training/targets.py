"""What a model shall answer to each image, for each task: from truth to one Arrow column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from cvbatch.config.train_job import TrainJob, TruthConfig
from cvbatch.errors import JobError, UsageError
from cvbatch.evaluation.evaluators import EVALUATORS
from cvbatch.results.committed import OpenedOutput
from cvbatch.tasks import CLASSIFICATION, DETECTION, SEGMENTATION
from cvbatch.training.box_targets import box_targets
from cvbatch.training.map_targets import map_targets
from cvbatch.training.soft_labels import SoftLabelTruth, soft_target_column
from cvbatch.training.target_column import Targets
from cvbatch.training.teacher import open_teacher, read_predicted_labels
from cvbatch.truth.base import Ints, Truth, TruthOptions, TruthReader, count_names, read_truth
from cvbatch.truth.labels import LabelTruth


@dataclass(frozen=True, kw_only=True)
class TargetKind:
    """How targets of one task are made."""

    readers: Sequence[TruthReader]
    """Formats of truth."""
    make: Callable[[Truth, Ints, pa.Table], Targets]
    """From truth, the position in it of each image, and the images with their sizes, to targets; raises `UsageError` if
    nothing can be learned."""
    read_predicted: Callable[[OpenedOutput, TruthConfig, Sequence[TruthReader], TruthOptions], Truth] | None
    """Reads the predictions of a run as truth; None if they teach nothing."""
    trainer: str
    """The module that learns them: its `make_task` returns a `training.torch.base.TrainingTask`."""


def label_targets(truth: Truth, positions: Ints, images: pa.Table) -> Targets:
    """One class for each image, or shares of several; classes that are the best one of no image are left out.

    Args:
        truth: A `LabelTruth`.
        positions: (images,) of each image in the truth.
        images: The images.

    Raises:
        UsageError: If there are fewer than two classes.
    """
    assert isinstance(truth, LabelTruth), "the readers of classification give labels"
    labels = truth.labels[positions]
    counts = np.bincount(labels, minlength=len(truth.categories))
    used = np.flatnonzero(counts)
    names = tuple(truth.categories[index] for index in used)
    if len(names) < 2:
        raise UsageError(
            f"{truth.source}: expected at least two classes to tell apart, got only {names[0]!r} for all "
            f"{len(labels):,} images; add images of another class"
        )
    empty = {truth.categories[index]: int(truth.label_counts[index]) for index in np.flatnonzero(counts == 0)}
    notes = [f"classes of the truth without an image of the source are left out: {count_names(empty)}"] if empty else []
    numbers = np.full(len(truth.categories), -1, np.int32)
    numbers[used] = np.arange(len(used))
    return Targets(
        categories=names,
        column=soft_target_column(truth, positions, numbers)
        if isinstance(truth, SoftLabelTruth)
        else pa.array(numbers[labels], pa.int32()),
        strata=labels,
        counts={name: int(counts[index]) for name, index in zip(names, used, strict=True)},
        notes=notes,
    )


TARGET_KINDS: Final[dict[str, TargetKind]] = {
    CLASSIFICATION.name: TargetKind(
        readers=EVALUATORS[CLASSIFICATION.name].readers,
        make=label_targets,
        read_predicted=read_predicted_labels,
        trainer="cvbatch.training.torch.classification",
    ),
    DETECTION.name: TargetKind(
        readers=EVALUATORS[DETECTION.name].readers,
        make=box_targets,
        read_predicted=None,
        trainer="cvbatch.training.torch.detection",
    ),
    SEGMENTATION.name: TargetKind(
        readers=EVALUATORS[SEGMENTATION.name].readers,
        make=map_targets,
        read_predicted=None,
        trainer="cvbatch.training.torch.segmentation",
    ),
}
"""By name of the task."""


def read_learned_truth(job: TrainJob) -> Truth:
    """Read the truth of a training: annotations, or the predictions of a run.

    Raises:
        UsageError: If it is neither, or no such truth is learned.
    """
    kind, config = TARGET_KINDS[job.task], job.truth
    options = TruthOptions(
        image_column=config.image_column, label_column=config.label_column, ignored_value=config.ignored_value
    )
    teacher = open_teacher(config)
    if teacher is None:
        return read_truth(config.location, kind.readers, options)
    if kind.read_predicted is None:
        able = ", ".join(name for name, other in TARGET_KINDS.items() if other.read_predicted is not None)
        raise JobError(
            f"truth: {config.location} is an output of cvbatch run, whose predictions are learned for {able} only; "
            f"give other truth for {job.task}"
        )
    return kind.read_predicted(teacher, config, kind.readers, options)
