"""Compares two runs over the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cvbatch.comparison.against_truth import TruthDifference, compare_with_truth
from cvbatch.comparison.base import ComparisonOptions, TaskComparer
from cvbatch.comparison.boxes import BoxComparer
from cvbatch.comparison.labels import LabelComparer
from cvbatch.comparison.paired_rows import iter_paired_rows
from cvbatch.comparison.pairing import pair_runs
from cvbatch.comparison.report import ComparisonReport
from cvbatch.comparison.review import REVIEW_IMAGES
from cvbatch.comparison.segments import SegmentComparer
from cvbatch.comparison.vectors import VectorComparer
from cvbatch.comparison.verdicts import MARGIN
from cvbatch.errors import OutputError, UsageError
from cvbatch.evaluation.base import Comparison
from cvbatch.evaluation.evaluators import EVALUATORS
from cvbatch.models.spec import ModelSpec
from cvbatch.results.committed import OpenedOutput, Output, Storage, open_output
from cvbatch.results.where import Where, check_min_score
from cvbatch.schema import HEIGHT, IMAGE_URI, WIDTH
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from cvbatch.tasks import CLASSIFICATION, DETECTION, EMBEDDING, SEGMENTATION
from cvbatch.truth.align import align_truth
from cvbatch.truth.base import IGNORED_VALUE, TruthOptions, read_truth

COMPARERS: Final[dict[str, type[TaskComparer]]] = {
    CLASSIFICATION.name: LabelComparer,
    DETECTION.name: BoxComparer,
    SEGMENTATION.name: SegmentComparer,
    EMBEDDING.name: VectorComparer,
}
"""By name of the task."""


def compare_runs(
    first: Output,
    second: Output,
    *,
    truth: str | Location | None = None,
    model: str | None = None,
    second_model: str | None = None,
    where: Where = None,
    classes: Sequence[str | int] | None = None,
    min_score: float | None = None,
    margin: float = MARGIN,
    review: int = REVIEW_IMAGES,
    image_column: str | None = None,
    label_column: str | None = None,
    ignored_value: int | None = IGNORED_VALUE,
    storage: Storage = None,
) -> ComparisonReport:
    """Compare two runs over the same images, such as those of two models; the images are found by their content.

    Args:
        first: The output of a run.
        second: That of another run, or the same output with another model.
        truth: File or folder with truth, to say which run is better; as for `evaluate`.
        model: Column prefix of the model; None for the only one that both runs have.
        second_model: That of the second run, if it is another.
        where: Only images for which this holds in both runs.
        classes: Only these classes, by name or id of the first model.
        min_score: Answers with a lower score do not count; for boxes 0.3 by default.
        margin: Loss that does not matter in the verdict.
        review: Images in the list of those to look at.
        image_column: As for `evaluate`.
        label_column: As for `evaluate`.
        ignored_value: As for `evaluate`.
        storage: Options for an object store.

    Returns:
        Agreement, flips by class, images to look at, and with truth the differences with a verdict.

    Raises:
        OutputError: If there is no run, or the runs have no such model.
        UsageError: If no image is in both, or an argument is wrong.
    """
    check_min_score(min_score)
    if not margin >= 0 or review < 1:  # NaN is not
        raise UsageError(f"expected a margin of 0 or more and a list of 1 or more, got {margin:g} and {review}")
    opened = (open_output(first, storage), open_output(second, storage))
    models = _find_models(opened, model, second_model)
    if truth is not None and models[0].task not in EVALUATORS:
        raise UsageError(f"there is no truth for {models[0].task} models; leave out --truth")
    pairs = pair_runs(*opened, where)
    options = ComparisonOptions(models=models, classes=classes, min_score=min_score, review=review)
    comparer = COMPARERS[models[0].task](options)
    columns = [
        [IMAGE_URI, WIDTH, HEIGHT, *(f"{spec.alias}_{short}" for short in comparer.short_columns)] for spec in models
    ]
    for tables in iter_paired_rows(opened, pairs, (columns[0], columns[1]), comparer.batch_rows):
        comparer.add_rows(*tables)
    truth_options = TruthOptions(image_column=image_column, label_column=label_column, ignored_value=ignored_value)
    location = None if truth is None else Location.from_path_or_uri(truth, StorageOptions.from_mapping(storage or {}))
    notes: list[str] = []
    return ComparisonReport(
        first=str(opened[0].store.root),
        second=str(opened[1].store.root),
        models=(models[0].alias, models[1].alias),
        task=models[0].task,
        pairs=pairs,
        agreement=comparer.finish(),
        truth=None if location is None else _judge(opened, options, location, truth_options, where, notes),
        margin=margin,
        notes=notes,
    )


def _judge(
    opened: tuple[OpenedOutput, OpenedOutput],
    options: ComparisonOptions,
    location: Location,
    truth_options: TruthOptions,
    where: Where,
    notes: list[str],
) -> TruthDifference:
    task = options.models[0].task
    evaluator = EVALUATORS[task]
    truth = read_truth(location, evaluator.readers, truth_options)
    comparisons = [
        Comparison(
            opened=run,
            model=spec,
            truth=truth,
            alignment=align_truth(run, truth, where),
            classes=options.classes,
            min_score=options.min_score,
        )
        for run, spec in zip(opened, options.models, strict=True)
    ]
    scorers = [evaluator.open_scorer(comparison) for comparison in comparisons]
    notes += dict.fromkeys([*truth.notes, *scorers[0].notes, *scorers[1].notes])
    return compare_with_truth(task, (comparisons[0], comparisons[1]), (scorers[0], scorers[1]))


def _find_models(
    opened: tuple[OpenedOutput, OpenedOutput], alias: str | None, second_alias: str | None
) -> tuple[ModelSpec, ModelSpec]:
    """The model of each run; both have the same task."""
    sides = [{model.alias: model for model in run.plan.models if model.task in COMPARERS} for run in opened]
    if alias is None:
        shared = [name for name in sides[0] if name in sides[1] and sides[0][name].task == sides[1][name].task]
        if len(shared) != 1 and second_alias is None:
            which = f"several: {', '.join(shared)}" if shared else f"{_list(sides[0])} and {_list(sides[1])}"
            raise OutputError(f"expected one model that both runs have, got {which}; name it with --model")
        alias = shared[0] if len(shared) == 1 else second_alias
    chosen = []
    for side, run, name in zip(sides, opened, (alias, second_alias or alias), strict=True):
        if name not in side:
            raise OutputError(f"{run.store.root}: expected the model {name!r}; it has {_list(side)}")
        chosen.append(side[str(name)])
    if chosen[0].task != chosen[1].task:
        raise OutputError(f"expected models of one task, got {chosen[0].task} and {chosen[1].task}")
    return chosen[0], chosen[1]


def _list(models: dict[str, ModelSpec]) -> str:
    return ", ".join(f"{model.alias} ({model.task})" for model in models.values()) or "none"
