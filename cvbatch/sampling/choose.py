"""Which images to label next: `choose_samples`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from cvbatch.errors import OutputError, UsageError
from cvbatch.models.spec import ModelSpec
from cvbatch.results.committed import OpenedOutput, Output, Storage, open_output
from cvbatch.results.list_columns import label_ids_of_classes
from cvbatch.results.where import Where, check_min_score, check_names
from cvbatch.sampling.choice import SampleChoice, make_choice
from cvbatch.sampling.disagreement import disagreement_measure, find_pair
from cvbatch.sampling.measures import AGGREGATES, MEASURES_OF_TASK, ElementFilter, Measure
from cvbatch.sampling.pool import PoolRequest, collect_pool
from cvbatch.sampling.selection import Selection
from cvbatch.sampling.strategies import STRATEGIES
from cvbatch.tasks import EMBEDDING

Budget = int | Mapping[str, int] | None
"""Most images of one class: a number for all, or by class; None for no limit."""
MAX_COSINE: Final = 0.97
_CANDIDATES_PER_IMAGE: Final = 10


def choose_samples(
    output: Output,
    count: int = 200,
    *,
    by: str = "uncertainty",
    model: str | None = None,
    other_model: str | None = None,
    measure: str | None = None,
    aggregate: str = "sum",
    embedding: str | None = None,
    max_cosine: float = MAX_COSINE,
    budget: Budget = None,
    exclude: Iterable[int] = (),
    candidates: int | None = None,
    seed: int = 0,
    where: Where = None,
    classes: Sequence[str | int] | None = None,
    min_score: float | None = None,
    storage: Storage = None,
) -> SampleChoice:
    """Choose the images to label next.

    Args:
        output: The output location.
        count: Number of images.
        by: A key of `STRATEGIES`.
        model: Column prefix of the model whose answers count; needed if several could be meant.
        other_model: For `disagreement`: the model to compare with.
        measure: How unsure the model is: `margin` or `entropy`, for segmentation `edges`; None for the first of these.
        aggregate: How the values of boxes become that of an image: `sum`, `max` or `mean`.
        embedding: Column prefix of the embedding that tells near duplicates; None for the only one, if there is one.
        max_cosine: Two images whose vectors have at least this cosine are near duplicates: only one is chosen.
        budget: Most images of one class: a number for each, or by name.
        exclude: Rows that are labelled already; neither they nor their near duplicates are chosen.
        candidates: Most images that are kept in memory to choose from; None for 10 times `count`, at least 1,000;
            20,000 if they are compared with each other.
        seed: Decides what chance decides; the same seed chooses the same images.
        where: Only images for which this holds.
        classes: Only images, or boxes, of these classes.
        min_score: Only images, or boxes, with at least this score.
        storage: Options for an object store.

    Returns:
        The chosen images, the best first, with a reason each; fewer than `count` if there are not more.

    Raises:
        OutputError: If there is no run, or it lacks what `by` needs.
        UsageError: If an option is wrong.
    """
    check_names("way to choose", [by], list(STRATEGIES))
    check_min_score(min_score)
    check_names("aggregate", [aggregate], list(AGGREGATES))
    _check_numbers(count, max_cosine, candidates)
    strategy, opened = STRATEGIES[by], open_output(output, storage)
    vectors = find_embedding(opened, embedding)
    if vectors is None and strategy.needs_embedding:
        raise OutputError(
            f"{opened.store.root} has no embedding model, which --by {by} needs; add one to the job, or choose by "
            "uncertainty"
        )
    needs_labels = strategy.needs_measure or budget is not None or classes is not None or min_score is not None
    labels, rule = None, None
    if strategy.compares_models:
        labels, other = find_pair(opened, model, other_model)
        rule = disagreement_measure(labels, other)
    elif needs_labels or model is not None:
        labels = opened.find_model_of(MEASURES_OF_TASK, "model with labels", model)
        rule = _find_measure(labels, measure)
    budget_of_ids = _budget_of_ids(labels, budget)
    request = PoolRequest(
        priority=strategy.priority,
        limit=candidates or max(strategy.candidates, _CANDIDATES_PER_IMAGE * count),
        seed=seed,
        measure=rule,
        model=labels,
        embedding=vectors,
        elements=ElementFilter(
            label_ids=None if labels is None or classes is None else label_ids_of_classes(labels, classes).to_numpy(),
            min_score=min_score,
            aggregate=aggregate,
        ),
        class_share=max(budget_of_ids.values(), default=None),
        excluded=np.fromiter(exclude, np.int64),
        where=where,
    )
    pool = collect_pool(opened, request, needs_gradients=strategy.needs_gradients)
    selection = Selection(
        pool.candidates,
        pool.excluded,
        vector_column=None if vectors is None else f"{vectors.alias}_vector",
        max_cosine=max_cosine,
        budget=budget_of_ids,
    )
    strategy.choose(selection, count, pool, request)
    return make_choice(by, count, request, pool, selection, strategy.explain)


def find_embedding(opened: OpenedOutput, alias: str | None) -> ModelSpec | None:
    """The embedding model of a run, or None if it has none.

    Raises:
        OutputError: If there is no such model, or if several could be meant.
    """
    if alias is None and all(model.task != EMBEDDING.name for model in opened.plan.models):
        return None
    return opened.find_model(EMBEDDING, alias)


def _find_measure(model: ModelSpec, name: str | None) -> Measure:
    measures = MEASURES_OF_TASK[model.task]
    check_names(f"measure of a {model.task} model", [] if name is None else [name], list(measures))
    return measures[name or next(iter(measures))]


def _check_numbers(count: int, max_cosine: float, candidates: int | None) -> None:
    if count < 1:
        raise UsageError(f"count: expected 1 image or more, got {count}")
    if not 0 < max_cosine <= 1:
        raise UsageError(f"max_cosine: expected a number over 0 and up to 1, such as {MAX_COSINE}, got {max_cosine:g}")
    if candidates is not None and candidates < count:
        raise UsageError(f"candidates: expected at least as many as images are chosen ({count}), got {candidates}")


def _budget_of_ids(model: ModelSpec | None, budget: Budget) -> dict[int, int]:
    """Most images of each label id."""
    if model is None or budget is None:
        return {}
    by_name = (
        dict.fromkeys((name for name in model.categories if name is not None), budget)
        if isinstance(budget, int)
        else dict(budget)
    )
    for name, number in by_name.items():
        if number < 1:
            raise UsageError(f"budget: expected 1 image or more of {name!r}, got {number}; leave it out by --where")
    return {
        int(label_id): number
        for name, number in by_name.items()
        for label_id in label_ids_of_classes(model, [name]).to_pylist()
    }
