"""How good the answers are, against truth: numbers, confusion with examples, curves and kinds of error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from cvbatch.errors import UsageError
from cvbatch.evaluation.base import Comparison
from cvbatch.evaluation.classification import LabelScorer
from cvbatch.evaluation.evaluators import EVALUATORS
from cvbatch.evaluation.report import ERROR_KINDS, Metrics
from cvbatch.models.spec import ModelSpec
from cvbatch.report.page_data import AnswerSection, Fact, ImageGroup, Matrix, Plot
from cvbatch.report.section_base import SectionRequest, format_number, number_facts, table_by_name, table_of_rows
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from cvbatch.truth.align import align_truth
from cvbatch.truth.base import TruthOptions, read_truth

NAME: Final = "evaluation"
_CLASSES: Final = 20
_EXAMPLES: Final = 4
_CONFUSED: Final = 6

Cells = Mapping[tuple[str, str], list[int]]
"""Row ids of images by their true class and by the answer."""


def show_evaluation(request: SectionRequest) -> list[AnswerSection]:
    """Evaluate each model that the truth is about.

    Raises:
        UsageError: If the truth fits none of them.
    """
    if request.truth is None:
        return []
    models = [model for model in request.opened.plan.models if model.task in EVALUATORS]
    sections, problem = list[AnswerSection](), UsageError(f"no model of this run can be evaluated with {request.truth}")
    for model in models:
        try:
            sections += _evaluate_model(request, request.truth, model)
        except UsageError as error:
            problem = error
    if not sections:
        raise problem
    return sections


def _evaluate_model(request: SectionRequest, path: str | Location, model: ModelSpec) -> list[AnswerSection]:
    location = Location.from_path_or_uri(path, StorageOptions.from_mapping(request.storage or {}))
    evaluator = EVALUATORS[model.task]
    truth = read_truth(location, evaluator.readers, TruthOptions())
    comparison = Comparison(
        opened=request.opened, model=model, truth=truth, alignment=align_truth(request.opened, truth)
    )
    scorer = evaluator.open_scorer(comparison)
    cells = _cells_of_labels(scorer, comparison) if isinstance(scorer, LabelScorer) else {}
    notes = [*truth.notes, *scorer.notes]
    return [_describe(model, kind, metrics, cells, notes) for kind, metrics in scorer.score().items()]


def _cells_of_labels(scorer: LabelScorer, comparison: Comparison) -> Cells:
    """The first images of each cell of the confusion."""
    names, judged = comparison.model.categories, scorer.judged
    cells: dict[tuple[str, str], list[int]] = {}
    for place in np.flatnonzero(judged.takes_part).tolist():
        cell = (str(names[judged.images.truth[place]]), str(names[judged.images.predicted[place]]))
        rows = cells.setdefault(cell, [])
        if len(rows) < _EXAMPLES:
            rows.append(int(comparison.alignment.row_ids[place]))
    return cells


def _describe(model: ModelSpec, kind: str, metrics: Metrics, cells: Cells, notes: list[str]) -> AnswerSection:
    first = next(iter(metrics.values.items()), None)
    measured = "" if first is None else f": {first[0]} is {format_number(first[1])}"
    tables = [table_by_name("Classes", "class", metrics.per_class)]
    tables += [table_of_rows(title.capitalize(), rows) for title, rows in metrics.tables.items()]
    kinds = metrics.details.get(ERROR_KINDS)
    if kinds:
        tables.append(table_by_name("Kinds of error", "kind", kinds["kinds"]))
    confusion = metrics.details.get("confusion")
    return AnswerSection(
        name=NAME,
        title=f"Evaluation: {model.alias}" + (f", {kind}" if kind != model.task else ""),
        sentence=f"The answers to {metrics.images:,} images are compared with truth{measured}.",
        facts=[*number_facts(dict(metrics.values), dict(metrics.intervals)), *(Fact("note", note) for note in notes)],
        tables=[table for table in tables if table.rows],
        matrices=[_confusion_matrix(confusion, cells)] if confusion and cells else [],
        plots=_curves(metrics.details.get("precision_recall")),
        groups=_most_confused(cells, confusion or []),
    )


def _confusion_matrix(confusion: list[list[Any]], cells: Cells) -> Matrix:
    """The classes with the most images; of rows the truth, of columns the answers."""
    totals = Counter[str]()
    for true, answer, count in confusion:
        totals[true] += count
        totals[answer] += count if answer != true else 0
    names = sorted(name for name, _ in totals.most_common(_CLASSES))
    numbers = {name: number for number, name in enumerate(names)}
    values = np.zeros((len(names), len(names)))
    for true, answer, count in confusion:
        if true in numbers and answer in numbers:
            values[numbers[true], numbers[answer]] = count
    examples = {
        f"{numbers[true]},{numbers[answer]}": rows
        for (true, answer), rows in cells.items()
        if true in numbers and answer in numbers
    }
    return Matrix("Confusion", "truth", "answer", names, names, values.tolist(), examples)


def _most_confused(cells: Cells, confusion: list[list[Any]]) -> list[ImageGroup]:
    wrong = sorted((part for part in confusion if part[0] != part[1]), key=lambda part: -part[2])[:_CONFUSED]
    return [
        ImageGroup(f"{true} taken for {answer}: {count:,}", cells[true, answer])
        for true, answer, count in wrong
        if (true, answer) in cells
    ]


def _curves(curve: Mapping[str, Any] | None) -> list[Plot]:
    if not curve:
        return []
    lines = {"all classes": curve["precision"], **dict(list(curve["by_class"].items())[:_EXAMPLES])}
    points = {
        name: [(x, y) for x, y in zip(curve["recall"], values, strict=True) if y is not None]
        for name, values in lines.items()
    }
    return [Plot(f"Precision and recall at IoU {curve['iou']:g}", "recall", "precision", points)]
