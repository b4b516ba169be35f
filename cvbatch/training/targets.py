"""What a model shall answer to each image, for each task: from truth to one Arrow column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from cvbatch.errors import UsageError
from cvbatch.evaluation.evaluators import EVALUATORS
from cvbatch.tasks import CLASSIFICATION, DETECTION, SEGMENTATION
from cvbatch.training.box_targets import box_targets
from cvbatch.training.map_targets import map_targets
from cvbatch.training.target_column import Targets
from cvbatch.truth.base import Ints, Truth, TruthReader, count_names
from cvbatch.truth.labels import LabelTruth


@dataclass(frozen=True, kw_only=True)
class TargetKind:
    """How targets of one task are made."""

    readers: Sequence[TruthReader]
    """Formats of truth."""
    make: Callable[[Truth, Ints, pa.Table], Targets]
    """From truth, the position in it of each image, and the images with their sizes, to targets; raises `UsageError` if
    nothing can be learned."""
    trainer: str
    """The module that learns them: its `make_task` returns a `training.torch.base.TrainingTask`."""


def label_targets(truth: Truth, positions: Ints, images: pa.Table) -> Targets:
    """One class for each image; classes without an image are left out.

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
        column=pa.array(numbers[labels], pa.int32()),
        strata=labels,
        counts={name: int(counts[index]) for name, index in zip(names, used, strict=True)},
        notes=notes,
    )


TARGET_KINDS: Final[dict[str, TargetKind]] = {
    CLASSIFICATION.name: TargetKind(
        readers=EVALUATORS[CLASSIFICATION.name].readers,
        make=label_targets,
        trainer="cvbatch.training.torch.classification",
    ),
    DETECTION.name: TargetKind(
        readers=EVALUATORS[DETECTION.name].readers,
        make=box_targets,
        trainer="cvbatch.training.torch.detection",
    ),
    SEGMENTATION.name: TargetKind(
        readers=EVALUATORS[SEGMENTATION.name].readers,
        make=map_targets,
        trainer="cvbatch.training.torch.segmentation",
    ),
}
"""By name of the task."""
