"""How good the answers are, against truth: numbers, confusion with examples, curves and kinds of mistake."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from cvbatch.errors import UsageError
from cvbatch.evaluation.base import Comparison, Scorer
from cvbatch.evaluation.cell_examples import MOST_EXAMPLES
from cvbatch.evaluation.classification import LabelScorer
from cvbatch.evaluation.coco_evaluator import BOXES, MASKS
from cvbatch.evaluation.detection import ObjectScorer
from cvbatch.evaluation.evaluators import EVALUATORS
from cvbatch.evaluation.report import ERROR_KINDS, Metrics
from cvbatch.evaluation.segmentation import SegmentScorer
from cvbatch.models.spec import ModelSpec
from cvbatch.report.confusions import Cell, group_most_confused, show_confusion
from cvbatch.report.object_examples import ObjectExamples
from cvbatch.report.page_data import AnswerSection, ImageGroup, Matrix, MistakeKinds, Plot
from cvbatch.report.section_base import SectionRequest, format_number, number_facts, table_by_name, table_of_rows
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from cvbatch.tasks import CLASSIFICATION, DETECTION, SEGMENTATION
from cvbatch.truth.align import align_truth
from cvbatch.truth.base import read_truth

NAME: Final = "evaluation"
_TERMS: Final = {
    DETECTION.name: "AP: mean precision over IoU 0.5 to 0.95; AP50, AP75: at that IoU; AR1, AR10, AR100: recall with "
    "so many answers of a class in an image; s, m, l: objects of up to 32², up to 96², and more pixels."
}
_CURVES: Final = 4
"""Classes with a curve of their own."""


@dataclass(frozen=True, slots=True)
class _Examples:
    """What is shown besides the numbers."""

    matrices: list[Matrix] = field(default_factory=list)
    groups: list[ImageGroup] = field(default_factory=list)
    kinds: MistakeKinds | None = None


def show_evaluation(request: SectionRequest) -> list[AnswerSection]:
    """Evaluate each model that the truth is about; the first section says which model it is not about.

    Raises:
        UsageError: If the truth fits none of them.
    """
    if request.truth is None:
        return []
    models = [model for model in request.opened.plan.models if model.task in EVALUATORS]
    sections, problems = list[AnswerSection](), list[str]()
    for model in models:
        try:
            sections += _evaluate_model(request, request.truth, model)
        except UsageError as error:
            problems.append(f"{model.alias} is not evaluated: {error}")
    if not sections:
        raise UsageError("; ".join(problems) or f"no model of this run can be evaluated with {request.truth}")
    return [replace(sections[0], notes=[*sections[0].notes, *problems]), *sections[1:]]


def _evaluate_model(request: SectionRequest, path: str | Location, model: ModelSpec) -> list[AnswerSection]:
    location = Location.from_path_or_uri(path, StorageOptions.from_mapping(request.storage or {}))
    evaluator = EVALUATORS[model.task]
    truth = read_truth(location, evaluator.readers, request.truth_options)
    comparison = Comparison(
        opened=request.opened, model=model, truth=truth, alignment=align_truth(request.opened, truth)
    )
    scorer, show = evaluator.open_scorer(comparison), _EXAMPLES[model.task]
    sections = [
        _describe(model, kind, metrics, show(scorer, comparison, kind, metrics))
        for kind, metrics in scorer.score().items()
    ]
    terms = [_TERMS[model.task]] if model.task in _TERMS else []
    return [replace(sections[0], notes=[*terms, *truth.notes, *scorer.notes]), *sections[1:]]


def _show_labels(scorer: Scorer, comparison: Comparison, kind: str, metrics: Metrics) -> _Examples:
    """The first images of each cell of the confusion."""
    assert isinstance(scorer, LabelScorer)
    names, judged = comparison.model.categories, scorer.judged
    cells: dict[Cell, list[int]] = {}
    for place in np.flatnonzero(judged.takes_part).tolist():
        cell = (str(names[judged.images.truth[place]]), str(names[judged.images.predicted[place]]))
        rows = cells.setdefault(cell, [])
        if len(rows) < MOST_EXAMPLES:
            rows.append(int(comparison.alignment.row_ids[place]))
    return _show_cells(metrics, cells, "image", as_shares=False)


def _show_segments(scorer: Scorer, comparison: Comparison, kind: str, metrics: Metrics) -> _Examples:
    """The images with the most pixels of each cell of the confusion."""
    assert isinstance(scorer, SegmentScorer)
    rows = comparison.alignment.row_ids
    cells = {cell: [int(rows[image]) for image in images] for cell, images in scorer.examples.items()}
    return _show_cells(metrics, cells, "pixel", as_shares=True)


def _show_cells(metrics: Metrics, cells: Mapping[Cell, list[int]], unit: str, *, as_shares: bool) -> _Examples:
    confusion = metrics.details.get("confusion")
    if not confusion:
        return _Examples()
    return _Examples(
        [show_confusion(confusion, cells, as_shares=as_shares)], group_most_confused(confusion, cells, unit)
    )


def _show_objects(scorer: Scorer, comparison: Comparison, kind: str, metrics: Metrics) -> _Examples:
    """Pictures of boxes and of masks."""
    assert isinstance(scorer, ObjectScorer)
    details = metrics.details.get(ERROR_KINDS)
    if not details:  # keypoints, and LVIS, whose truth is not of all objects
        return _Examples()
    examples = ObjectExamples(scorer, _KINDS[kind], comparison.alignment.row_ids)
    return _Examples([examples.show_confusion()], kinds=examples.show_kinds(details))


_KINDS: Final = {BOXES.name: BOXES, MASKS.name: MASKS}
_EXAMPLES: Final[Mapping[str, Callable[[Scorer, Comparison, str, Metrics], _Examples]]] = {
    CLASSIFICATION.name: _show_labels,
    DETECTION.name: _show_objects,
    SEGMENTATION.name: _show_segments,
}


def _describe(model: ModelSpec, kind: str, metrics: Metrics, shown: _Examples) -> AnswerSection:
    first = next(iter(metrics.values.items()), None)
    measured = "" if first is None else f": {first[0]} is {format_number(first[1])}"
    tables = [table_by_name("Classes", "class", metrics.per_class)]
    tables += [table_of_rows(title.capitalize(), rows) for title, rows in metrics.tables.items()]
    return AnswerSection(
        name=NAME,
        title=f"Evaluation: {model.alias}" + (f", {kind}" if kind != model.task else ""),
        sentence=f"The answers to {metrics.images:,} images are compared with truth{measured}.",
        facts=number_facts(metrics.values, metrics.intervals),
        tables=[table for table in tables if table.rows],
        matrices=shown.matrices,
        plots=[*_draw_curves(metrics), *_draw_calibration(metrics)],
        groups=shown.groups,
        kinds=shown.kinds,
    )


def _draw_curves(metrics: Metrics) -> list[Plot]:
    """The mean over the classes, and those with the most objects."""
    curve = metrics.details.get("precision_recall")
    if not curve:
        return []
    frequent = [name for name in metrics.per_class if name in curve["by_class"]][:_CURVES]
    lines = {"all classes": curve["precision"], **{name: curve["by_class"][name] for name in frequent}}
    points = {
        name: [(x, y) for x, y in zip(curve["recall"], values, strict=True) if y is not None]
        for name, values in lines.items()
    }
    return [Plot(f"Precision and recall at IoU {curve['iou']:g}", "recall", "precision", points)]


def _draw_calibration(metrics: Metrics) -> list[Plot]:
    """Whether a score is the share of answers that are right."""
    bins = [part for part in metrics.details.get("calibration_bins", []) if part["images"]]
    if not bins:
        return []
    line = [(part["mean_score"], part["accuracy"]) for part in bins]
    return [Plot("Calibration", "mean score", "share right", {"this model": line, "ideal": [(0.0, 0.0), (1.0, 1.0)]})]
