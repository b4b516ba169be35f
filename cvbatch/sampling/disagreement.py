"""The images about which two models of a run disagree (query by committee, Seung et al. 1992)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from cvbatch.errors import OutputError, UsageError
from cvbatch.models.spec import ModelSpec
from cvbatch.results.committed import OpenedOutput
from cvbatch.sampling.box_disagreement import compare_boxes, describe_boxes
from cvbatch.sampling.measures import Columns, Measure
from cvbatch.sampling.share_disagreement import compare_shares, describe_shares
from cvbatch.tasks import CLASSIFICATION, DETECTION, SEGMENTATION


@dataclass(frozen=True, slots=True)
class _Comparison:
    """How two models of one task are compared."""

    lists: tuple[str, ...]
    """Short names of the columns that it needs of both."""
    compare_rows: Callable[..., Columns]
    describe: Callable[[ModelSpec, ModelSpec, Mapping[str, Any]], str]


_COMPARISONS: Final = {
    CLASSIFICATION.name: _Comparison(("top_label_ids", "top_scores"), compare_shares, describe_shares),
    SEGMENTATION.name: _Comparison(("label_ids", "areas"), compare_shares, describe_shares),
    DETECTION.name: _Comparison(("label_ids", "scores", "boxes"), compare_boxes, describe_boxes),
}


def find_pair(opened: OpenedOutput, first: str | None, second: str | None) -> tuple[ModelSpec, ModelSpec]:
    """The two models to compare.

    Args:
        opened: The run.
        first: Alias; None if only one could be meant.
        second: The same.

    Raises:
        OutputError: If there are no such models, or several could be meant.
    """
    models = [model for model in opened.plan.models if model.task in _COMPARISONS]
    names = ", ".join(model.alias for model in models) or "none"
    for alias in (first, second):
        if alias is not None and alias not in [model.alias for model in models]:
            raise OutputError(f"{opened.store.root} has no model with labels {alias!r}; it has {names}")
    pairs = [
        (one, two)
        for place, one in enumerate(models)
        for two in models[place + 1 :]
        if one.task == two.task and {first, second} <= {None, one.alias, two.alias} and (first != second or not first)
    ]
    if len(pairs) != 1:
        kind = f"{len(pairs)} pairs of models" if pairs else "no two models"
        raise OutputError(
            f"{opened.store.root} has {kind} of one task that could disagree; expected two names of {names} "
            "(--model, --other-model)"
        )
    one, two = pairs[0]
    return (two, one) if first == two.alias or second == one.alias else (one, two)


def disagreement_measure(first: ModelSpec, second: ModelSpec) -> Measure:
    """The measure of the disagreement of two models of one task.

    Raises:
        UsageError: If they have no class name in common.
    """
    if not (set(first.categories) & set(second.categories)) - {None}:
        names = [next((name for name in model.categories if name is not None), "") for model in (first, second)]
        raise UsageError(
            f"{first.alias} and {second.alias} have no class in common ({names[0]!r}, {names[1]!r}); expected models "
            "that name the same things"
        )
    comparison = _COMPARISONS[first.task]
    return Measure(
        comparison.lists,
        partial(comparison.compare_rows, comparison.lists, second),
        partial(comparison.describe, second),
        other_columns=tuple(f"{second.alias}_{name}" for name in comparison.lists),
    )
