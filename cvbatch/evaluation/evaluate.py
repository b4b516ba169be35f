"""Evaluates the predictions of a model against truth."""

from __future__ import annotations

from collections.abc import Sequence

from cvbatch.evaluation.base import Comparison
from cvbatch.evaluation.evaluators import EVALUATORS
from cvbatch.evaluation.report import EvaluationReport
from cvbatch.evaluation.slices import slice_images
from cvbatch.models.spec import ModelSpec
from cvbatch.results.committed import OpenedOutput, Output, Storage, open_output
from cvbatch.results.where import Where, check_min_score
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from cvbatch.truth.align import align_truth
from cvbatch.truth.base import IGNORED_VALUE, TruthOptions, read_truth


def evaluate(
    output: Output,
    truth: str | Location,
    *,
    model: str | None = None,
    by: str | None = None,
    where: Where = None,
    classes: Sequence[str | int] | None = None,
    min_score: float | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    ignored_value: int | None = IGNORED_VALUE,
    storage: Storage = None,
) -> EvaluationReport:
    """Evaluate the predictions of a model against truth.

    Args:
        output: The output location; the run may still be going.
        truth: File or folder with truth, in one of the formats of the model's task.
        model: Column prefix of the model; None if only one of the run can be evaluated.
        by: Also evaluate slices: `folder`, `size`, or a column of the predictions.
        where: Only images for which this holds, such as `"width > 1000"`.
        classes: Only these categories of the model, by name or id.
        min_score: Predictions with a lower score are left out.
        image_column: Column of a table of labels that names the images; None for one with a usual name.
        label_column: Its column of classes; None for one with a usual name.
        ignored_value: Value of mask pixels that do not count; None if all count.
        storage: Options for an object store that holds the output, or the truth.

    Returns:
        The numbers, with the counts of images and rows that have no counterpart.

    Raises:
        OutputError: If there is no run, or no such model.
        UsageError: If the truth does not parse, names no class of the model, or fits no image; or if a column, a class
            or the condition is wrong.
    """
    check_min_score(min_score)
    opened = open_output(output, storage)
    spec = find_evaluated_model(opened, model)
    evaluator = EVALUATORS[spec.task]
    location = Location.from_path_or_uri(truth, StorageOptions.from_mapping(storage or {}))
    options = TruthOptions(image_column=image_column, label_column=label_column, ignored_value=ignored_value)
    annotations = read_truth(location, evaluator.readers, options)
    alignment = align_truth(opened, annotations, where)
    slices = {} if by is None else slice_images(opened, alignment, by)
    scorer = evaluator.open_scorer(
        Comparison(
            opened=opened,
            model=spec,
            truth=annotations,
            alignment=alignment,
            classes=classes,
            min_score=min_score,
        )
    )
    return EvaluationReport(
        output=str(opened.store.root),
        model=spec.alias,
        task=spec.task,
        truth=annotations.source,
        layout=annotations.layout,
        alignment=alignment,
        notes=[*annotations.notes, *scorer.notes],
        metrics=scorer.score(),
        by=by,
        slices={name: scorer.score(images) for name, images in slices.items()},
    )


def find_evaluated_model(opened: OpenedOutput, alias: str | None) -> ModelSpec:
    """Find the model to evaluate.

    Args:
        opened: The run.
        alias: Column prefix; None for the only model whose task can be evaluated.

    Raises:
        OutputError: If there is no such model, or several could be meant; the message has their aliases.
    """
    return opened.find_model_of(EVALUATORS, "model that can be evaluated", alias)
