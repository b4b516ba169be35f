"""Which of two runs is nearer to truth: differences of metrics on the same images, with paired intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np

from cvbatch.comparison.mcnemar import McNemarTest, mcnemar_test
from cvbatch.comparison.verdicts import Differences, MetricDifference
from cvbatch.errors import UsageError
from cvbatch.evaluation.base import Comparison, Scorer
from cvbatch.evaluation.bootstrap import Estimate, Floats, WeightedSums, draw_estimates
from cvbatch.evaluation.calibration import calibration_sums
from cvbatch.evaluation.class_metrics import class_means
from cvbatch.evaluation.classification import LabelScorer, select_images
from cvbatch.evaluation.segmentation import SegmentScorer
from cvbatch.tasks import CLASSIFICATION, DETECTION, SEGMENTATION
from cvbatch.truth.base import Bools

Scorers = tuple[Scorer, Scorer]

_GROUPS: Final = 20
"""Groups of the jackknife."""
_STUDENT: Final = 2.093
"""Two-sided 95 % point of Student's distribution with 19 degrees of freedom."""
_BLOCK_IMAGES: Final = 256
_CALIBRATION: Final = "calibration error"


@dataclass(frozen=True, kw_only=True)
class TruthDifference:
    """How two models differ on the images of the truth that both have."""

    images: int
    differences: Differences
    interval: str
    """How the intervals were made."""
    mcnemar: McNemarTest | None = None


def compare_with_truth(task: str, comparisons: tuple[Comparison, Comparison], scorers: Scorers) -> TruthDifference:
    """Compare the metrics of two models on the images that both have.

    Args:
        task: Name of the task.
        comparisons: Predictions and truth of each; the truth is the same.
        scorers: Scorers of both.

    Raises:
        UsageError: If no image of the truth is in both runs.
    """
    shared = comparisons[0].alignment.takes_part & comparisons[1].alignment.takes_part
    if not shared.any():
        raise UsageError(f"{comparisons[0].truth.source}: expected images that both runs have, got none")
    return _COMPARERS[task](scorers, shared)


def _compare_labels(scorers: Scorers, shared: Bools) -> TruthDifference:
    first, second = (cast(LabelScorer, scorer) for scorer in scorers)
    chosen = np.flatnonzero(shared & first.judged.takes_part & second.judged.takes_part)
    sides = [select_images(scorer.judged.images, chosen) for scorer in (first, second)]
    best = min(first.top_count, second.top_count)
    names = [f"top-{count}" for count in ([1, best] if best > 1 else [1])]
    counts = [1, best][: len(names)]
    hits = np.concatenate([[side.ranks < count for count in counts] for side in sides]).astype(np.float64)
    gaps = [calibration_sums(side) for side in sides]
    ones = np.ones((len(chosen), 1))
    sums = _sum_blocks(
        len(chosen), lambda part: np.concatenate([hits[:, part].T, *(gap[part] for gap in gaps), ones[part]], axis=1)
    )
    size, bins = len(names), gaps[0].shape[1]

    def rates(totals: Floats, side: int) -> Floats:
        accuracy = totals[:, side * size : (side + 1) * size]
        start = 2 * size + side * bins
        error = np.abs(totals[:, start : start + bins]).sum(axis=1, keepdims=True)
        shares: Floats = np.concatenate([accuracy, error], axis=1) / totals[:, -1:]
        return shares

    differences = _differences([*names, _CALIBRATION], sums, rates)
    right = [side.ranks == 0 for side in sides]
    test = mcnemar_test(int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum()))
    differences |= _class_mean_differences(sides)
    ordered = {name: differences[name] for name in [*names, "balanced accuracy", "macro F1", _CALIBRATION]}
    return TruthDifference(images=len(chosen), differences=ordered, interval="paired bootstrap", mcnemar=test)


def _class_mean_differences(sides: list[Any]) -> dict[str, MetricDifference]:
    values, draws = class_means(sides[0], sides[1])
    names = ("balanced accuracy", "macro F1")
    estimates = draw_estimates(values[1] - values[0], draws[:, 1] - draws[:, 0])
    return {
        name: MetricDifference(first=float(values[0, index]), second=float(values[1, index]), difference=estimate)
        for index, (name, estimate) in enumerate(zip(names, estimates, strict=True))
    }


def _compare_segments(scorers: Scorers, shared: Bools) -> TruthDifference:
    first, second = (cast(SegmentScorer, scorer) for scorer in scorers)
    images = [
        image for image in np.flatnonzero(shared).tolist() if image in first.segments and image in second.segments
    ]
    sides = (first, second)
    width = 5 * first.classes + 2

    def contributions(part: slice) -> Floats:
        return np.concatenate(
            [side.contributions([side.segments[image] for image in images[part]]) for side in sides], axis=1
        )

    def rates(totals: Floats, side: int) -> Floats:
        own = totals[:, :width] if side == 0 else totals[:, width:]
        return sides[side].rates(own)[:, -4:]

    sums = _sum_blocks(len(images), contributions)
    names = ["mIoU", "pixel accuracy", "mean accuracy", "boundary F1"]
    return TruthDifference(
        images=len(images), differences=_differences(names, sums, rates), interval="paired bootstrap"
    )


def _compare_by_jackknife(scorers: Scorers, shared: Bools) -> TruthDifference:
    """Metrics that are no means over images: all of them, and without each of 20 groups of images.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 11.
    """
    images = np.flatnonzero(shared)
    groups = np.zeros(len(shared), np.int64)
    groups[images] = np.random.default_rng(0).permutation(len(images)) % _GROUPS
    values = _named_values(scorers, shared)
    without = [_named_values(scorers, shared & (groups != group)) for group in range(min(_GROUPS, len(images)))]
    differences = {}
    for name, (first, second) in values.items():
        parts = [part[name][1] - part[name][0] for part in without if name in part]
        error = np.nan
        if len(parts) == _GROUPS:
            error = np.sqrt((_GROUPS - 1) / _GROUPS * np.sum((np.array(parts) - np.mean(parts)) ** 2))
        gain = second - first
        estimate = Estimate(gain, gain - _STUDENT * error, gain + _STUDENT * error)
        differences[name] = MetricDifference(first=first, second=second, difference=estimate)
    return TruthDifference(
        images=len(images), differences=differences, interval=f"jackknife over {_GROUPS} groups of images"
    )


def _named_values(scorers: Scorers, images: Bools) -> Mapping[str, tuple[float, float]]:
    """Metrics of both that are shares, by name."""
    sides = [scorer.score(images) for scorer in scorers]
    return {
        name if kind == next(iter(sides[0])) else f"{kind} {name}": (first, second)
        for kind, metrics in sides[0].items()
        if kind in sides[1]
        for name, first in metrics.values.items()
        if isinstance(first, float) and isinstance(second := sides[1][kind].values.get(name), float)
    }


def _sum_blocks(images: int, contributions: Callable[[slice], Floats]) -> WeightedSums:
    sums = WeightedSums(contributions(slice(0, 0)).shape[1])
    for start in range(0, images, _BLOCK_IMAGES):
        sums.add_images(contributions(slice(start, start + _BLOCK_IMAGES)))
    return sums


def _differences(
    names: list[str], sums: WeightedSums, rates: Callable[[Floats, int], Floats]
) -> dict[str, MetricDifference]:
    first, second = (rates(sums.total[None], side)[0] for side in (0, 1))
    draws = rates(sums.draws, 1) - rates(sums.draws, 0)
    return {
        name: MetricDifference(
            first=float(first[index]),
            second=float(second[index]),
            difference=estimate,
            lower_is_better=name == _CALIBRATION,
        )
        for index, (name, estimate) in enumerate(zip(names, draw_estimates(second - first, draws), strict=True))
    }


_COMPARERS: Final[dict[str, Callable[[Scorers, Bools], TruthDifference]]] = {
    CLASSIFICATION.name: _compare_labels,
    DETECTION.name: _compare_by_jackknife,
    SEGMENTATION.name: _compare_segments,
}
