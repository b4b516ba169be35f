"""The validation images that a trained model answers worst, with truth and answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa

from cvbatch.output.store import Store
from cvbatch.report.page_data import GalleryImage, ImageElement
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.schema import ROW_ID
from cvbatch.tasks import CLASSIFICATION
from cvbatch.training.plan import IS_VALIDATION, TrainingPlan, read_planned_images
from cvbatch.training.target_column import TARGET

MOST_WORST: Final = 24
TRUTH: Final = "truth"


@dataclass(frozen=True, slots=True)
class WorstImages:
    """What is shown of the validation images besides the answers."""

    row_ids: Sequence[int] = ()
    """The worst ones of the run over the validation images, the worst first."""
    truths: Mapping[int, str] = field(default_factory=dict)
    """True class by row id, where a class is the truth."""
    notes: Mapping[int, str] = field(default_factory=dict)
    """What is wrong with an image, by row id."""

    def change_image(self, image: GalleryImage) -> GalleryImage:
        """Add the truth to an image of the page."""
        truth = self.truths.get(image.row_id)
        if truth is None:
            return image
        elements = [*image.elements, ImageElement(TRUTH, truth, None)]
        return replace(image, elements=elements, note=self.notes.get(image.row_id))


def find_worst(store: Store, plan: TrainingPlan, opened: OpenedOutput) -> WorstImages:
    """Find the worst answers to the validation images; nothing for tasks whose evaluation shows mistakes itself.

    Args:
        store: The output of the training.
        plan: Of the training.
        opened: The run over the validation images.
    """
    find = _FINDERS.get(plan.start.task)
    return WorstImages() if find is None else find(store, plan, opened)


def _find_worst_labels(store: Store, plan: TrainingPlan, opened: OpenedOutput) -> WorstImages:
    """Wrong answers, the surest first; then right ones, the least sure first."""
    images = read_planned_images(store, plan)
    if not pa.types.is_integer(images.schema.field(TARGET).type):
        return WorstImages()  # the scores of another model are no truth that an answer could be wrong about
    targets = images.filter(images[IS_VALIDATION])[TARGET].to_numpy()
    (model,) = opened.plan.models
    names = [f"{model.alias}_{short}" for short in ("label", "score")]
    classes = [str(name) for name in plan.categories]
    badness, notes = np.full(len(targets), -1.0), dict[int, str]()
    for rows in iter_rows(opened, RowSelection(columns=[ROW_ID, *names])):
        for row_id, label, score in zip(*(rows[name].to_pylist() for name in (ROW_ID, *names)), strict=True):
            if label is None:
                continue
            truth = classes[targets[row_id]]
            badness[row_id] = 1 - score if label == truth else 1 + score
            if label != truth:
                notes[row_id] = f"{label} {score:.2f}, truth {truth}"
    worst = np.argsort(-badness, kind="stable")[:MOST_WORST]
    truths = {row_id: classes[target] for row_id, target in enumerate(targets.tolist()) if badness[row_id] >= 0}
    return WorstImages([int(row_id) for row_id in worst if badness[row_id] >= 0], truths, notes)


_FINDERS: Final[Mapping[str, Callable[[Store, TrainingPlan, OpenedOutput], WorstImages]]] = {
    CLASSIFICATION.name: _find_worst_labels,
}
