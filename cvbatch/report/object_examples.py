"""Boxes that are wrong, with pictures: by the kind of mistake, and by the classes that are confused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.evaluation.coco_evaluator import BOXES, MASKS, ObjectKind, true_mask
from cvbatch.evaluation.detection import ObjectScorer
from cvbatch.evaluation.error_kinds import BOTH, CLASS, DOUBLE, MISSED, NOTHING, PLACE, sample_images
from cvbatch.evaluation.object_mistakes import IGNORED, KINDS, find_best_score, judge_objects
from cvbatch.report.confusions import ANSWER, TRUTH, Cell, choose_classes, count_cells, number_cells
from cvbatch.report.outlines import trace_outline
from cvbatch.report.page_data import DataTable, ImageElement, Matrix, Mistake, MistakeGroup, MistakeKinds
from cvbatch.truth.base import Ints

NO_OBJECT: Final = "(nothing)"
_MOST_ANSWERS: Final = {BOXES.name: 100_000, MASKS.name: 20_000}
"""Answers that are told apart; of more, those of some images by chance."""
_NONE: Final = -1
_EXAMPLES: Final = 8
"""Of a kind."""
_CELL_EXAMPLES: Final = 3
_MEANINGS: Final = {
    MISSED: ("missed", "an object that no answer is about"),
    CLASS: ("wrong class", "an answer at the right place, with another class"),
    PLACE: ("badly placed", "an answer of the right class that covers the object too little (IoU 0.1 to 0.5)"),
    BOTH: ("wrong class, badly placed", "an answer of another class that covers the object too little"),
    DOUBLE: ("double", "one more answer for an object that a surer one has found"),
    NOTHING: ("nothing there", "an answer where the truth has no object: it is wrong, or the truth lacks it"),
}


class ObjectExamples:
    """Judges the boxes of one model, and has examples.

    Args:
        scorer: With the objects.
        kind: Boxes or masks.
        row_ids: (images of the truth,): row of each.
    """

    def __init__(self, scorer: ObjectScorer, kind: ObjectKind, row_ids: Ints) -> None:
        pair = scorer.pair_of(kind)
        images = sample_images(pair, _MOST_ANSWERS[kind.name])
        self._has_all = len(images) == len(pair.images)
        every = pair if self._has_all else pair.of_images(images)
        self.score = find_best_score(every, judge_objects(every, kind))
        """The least score of the best F1; examples are from it on."""
        self._pair = replace(every, predicted=every.predicted.restrict(every.predicted.scores >= self.score))
        self._judged, self._row_ids, self._has_masks = judge_objects(self._pair, kind), row_ids, kind is MASKS
        boxes = self._pair.truth.boxes
        self._truth_corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        self._truth_areas = boxes[:, 2] * boxes[:, 3]

    def show_kinds(self, details: Mapping[str, Any]) -> MistakeKinds:
        """Kinds of mistake with examples: the surest answers, and the largest objects that were missed.

        Args:
            details: As from `find_error_kinds`.
        """
        groups = [
            MistakeGroup(name, meaning, [self._example_of_kind(kind, place) for place in self._choose(kind)])
            for kind, (name, meaning) in _MEANINGS.items()
        ]
        title = f"from score {self.score:.3f}"
        counts = {kind: len(self._judged.of_kind(kind)) for kind in _MEANINGS}
        shown_answers = (
            "the pictures are of these answers" if any(counts.values()) else "none of these answers is wrong"
        )
        hint = f"From a score of {self.score:.3f} on, F1 is best: {shown_answers}. "
        if not self._has_all:
            hint += f"They are counted in {len(self._pair.images):,} images by chance. "
        hint += (
            "All answers count for the AP, however unsure they are; those that are wrong and less sure than the right "
            "ones cost nothing."
        )
        costs = details["kinds"]
        rows = [
            [name, counts[kind], costs[kind]["count"], round(costs[kind]["AP50 lost"], 4), meaning]
            for kind, (name, meaning) in _MEANINGS.items()
        ]
        table = DataTable("Kinds of mistake", ["kind", title, "of all answers", "AP50 lost", "what it is"], rows)
        return MistakeKinds(table, hint, [group for group in groups if group.mistakes])

    def show_confusion(self) -> Matrix:
        """Each object with the surest answer at its place, and each other answer, from the score of the best F1 on."""
        cells = self._sort_into_cells()
        confusion = [(true, answer, len(places)) for (true, answer), places in cells.items()]
        names = choose_classes(confusion, NO_OBJECT)
        mistakes = {
            place: [self._example(*pair) for pair in cells[cell][:_CELL_EXAMPLES]]
            for cell, place in number_cells(list(cells), names).items()
        }
        values = count_cells(confusion, names).tolist()
        return Matrix(f"Confusion from score {self.score:.3f}", TRUTH, ANSWER, names, names, values, {}, mistakes)

    def _sort_into_cells(self) -> dict[Cell, list[tuple[int, int]]]:
        """Positions of predictions and objects, -1 for none, by their classes; the surest and the largest first."""
        judged, predicted, objects = self._judged, self._pair.predicted, self._pair.truth
        counted = np.flatnonzero(judged.predicted != KINDS.index(IGNORED))
        answers = counted[np.argsort(-predicted.scores[counted], kind="stable")]
        alone = np.setdiff1d(np.flatnonzero(~objects.is_crowd), judged.confused)
        missed = alone[np.argsort(-self._truth_areas[alone], kind="stable")]
        cells: dict[Cell, list[tuple[int, int]]] = {}
        for answer in answers.tolist():
            truth = int(judged.confused[answer])
            true_name = NO_OBJECT if truth == _NONE else self._name(objects.labels[truth])
            cells.setdefault((true_name, self._name(predicted.labels[answer])), []).append((answer, truth))
        for truth in missed.tolist():
            cells.setdefault((self._name(objects.labels[truth]), NO_OBJECT), []).append((_NONE, truth))
        return cells

    def _choose(self, kind: str) -> list[int]:
        """The surest answers, or the largest objects; one of an image comes before the next of all others."""
        places = self._judged.of_kind(kind)
        source = self._pair.truth if kind == MISSED else self._pair.predicted
        worth = self._truth_areas if kind == MISSED else self._pair.predicted.scores
        ordered = places[np.argsort(-worth[places], kind="stable")]
        rank, seen = [], Counter[int]()
        for image in source.image_indices[ordered].tolist():
            rank.append(seen[image])
            seen[image] += 1
        best: list[int] = ordered[np.argsort(rank, kind="stable")][:_EXAMPLES].tolist()
        return best

    def _example_of_kind(self, kind: str, place: int) -> Mistake:
        return (
            self._example(_NONE, place) if kind == MISSED else self._example(place, int(self._judged.partners[place]))
        )

    def _example(self, answer: int, truth: int) -> Mistake:
        """A prediction and an object by their positions, one of which may be missing."""
        predicted, objects = self._pair.predicted, self._pair.truth
        image = int(predicted.image_indices[answer] if truth == _NONE else objects.image_indices[truth])
        return Mistake(
            int(self._row_ids[image]),
            None if truth == _NONE else self._show_object(image, truth),
            None if answer == _NONE else self._show_answer(image, answer),
            round(float(self._judged.overlaps[answer]), 3) if answer != _NONE and truth != _NONE else None,
        )

    def _show_object(self, image: int, place: int) -> ImageElement:
        counts = true_mask(self._pair.truth, self._pair.sizes, place)["counts"] if self._has_masks else None
        box = self._to_shares(image, self._truth_corners[place])
        return ImageElement(TRUTH, self._name(self._pair.truth.labels[place]), None, box, self._trace(image, counts))

    def _show_answer(self, image: int, place: int) -> ImageElement:
        predicted = self._pair.predicted
        counts = None if not self._has_masks or predicted.masks is None else predicted.masks[place].as_py()
        score, box = round(float(predicted.scores[place]), 4), self._to_shares(image, predicted.boxes[place])
        return ImageElement(ANSWER, self._name(predicted.labels[place]), score, box, self._trace(image, counts))

    def _trace(self, image: int, counts: bytes | None) -> list[list[float]]:
        width, height = self._pair.sizes[image].tolist()
        return [] if counts is None else trace_outline(counts, width, height)

    def _to_shares(self, image: int, corners: npt.NDArray[Any]) -> tuple[float, float, float, float]:
        sides = np.maximum(np.tile(self._pair.sizes[image], 2), 1)
        left, top, right, bottom = np.clip(corners / sides, 0, 1).round(4).tolist()
        return left, top, right, bottom

    def _name(self, label: int) -> str:
        return str(self._pair.truth.categories[label])
