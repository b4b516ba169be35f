"""Compares two samples of images: each signal on its own, the largest effect first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.drift.run_sample import RunSample
from cvbatch.drift.statistics import Shift, compare_counts, compare_values, correct_for_many
from cvbatch.drift.vector_distance import VectorShift, compare_vectors

LEAST_EFFECT: Final = 0.1
"""Smaller effects are not flagged, however sure they are: with many images any difference is significant."""
LARGEST_P: Final = 0.05
LEAST_ROWS: Final = 20
"""Images of both samples that a comparison needs."""
_NO_LABEL: Final = "(none)"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalShift:
    """The difference of one signal."""

    signal: str
    effect: float
    """From 0 to 1: of numbers the distance of Kolmogorov and Smirnov, of classes the total variation of their shares,
    of vectors the Fréchet distance in units of the reference's spread."""
    p: float
    """Corrected for all signals (Holm)."""
    reference: float | None
    """Median of the reference; None if the signal is no number."""
    value: float | None
    """Median of the other sample."""
    details: Mapping[str, float] = field(default_factory=dict)
    """Further numbers about it."""

    @property
    def is_flagged(self) -> bool:
        """Whether the difference is large, and not by chance."""
        return self.effect >= LEAST_EFFECT and self.p < LARGEST_P


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassShift:
    """The share of the images that one class has."""

    model: str
    label: str
    reference: float
    value: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences of two samples."""

    shifts: tuple[SignalShift, ...]
    """The largest effect first."""
    classes: tuple[ClassShift, ...]
    """The class that moved most first."""
    unlikeness: Mapping[str, npt.NDArray[np.float64]]
    """By signal of vectors: how unlike the reference each image is."""


def compare_samples(reference: RunSample, sample: RunSample, seed: int = 0) -> Comparison:
    """Compare all signals that both samples have.

    Args:
        reference: What the model is at home with.
        sample: The images in question.
        seed: Of permutations and random features.
    """
    raw = dict[str, tuple[Shift, float | None, float | None, dict[str, float]]]()
    classes, unlikeness = list[ClassShift](), dict[str, npt.NDArray[np.float64]]()
    for name in sample.values.keys() & reference.values.keys():
        pair = [part[~np.isnan(part)] for part in (reference.values[name], sample.values[name])]
        if min(map(len, pair)) >= LEAST_ROWS:
            raw[name] = compare_values(*pair), float(np.median(pair[0])), float(np.median(pair[1])), {}
    for model in sample.labels.keys() & reference.labels.keys():
        labels, counts = _count_labels(reference.labels[model], sample.labels[model])
        raw[f"{model}: class shares"] = compare_counts(counts[0], counts[1], seed), None, None, {}
        shares = [part / part.sum() for part in counts]
        classes += [
            ClassShift(model=model, label=label, reference=float(before), value=float(after))
            for label, before, after in zip(labels, shares[0], shares[1], strict=True)
        ]
    for model in sample.vectors.keys() & reference.vectors.keys():
        name = f"{model}: vectors"
        shift = compare_vectors(reference.vectors[model], sample.vectors[model], seed)
        raw[name] = Shift(shift.effect, shift.p), None, None, _vector_details(shift)
        unlikeness[name] = shift.unlikeness
    p_values = correct_for_many([shift.p for shift, *_ in raw.values()])
    shifts = [
        SignalShift(signal=name, effect=shift.effect, p=p, reference=before, value=after, details=details)
        for (name, (shift, before, after, details)), p in zip(raw.items(), p_values, strict=True)
    ]
    shifts.sort(key=lambda shift: (not shift.is_flagged, -shift.effect, shift.signal))
    classes.sort(key=lambda shift: (-abs(shift.value - shift.reference), shift.model, shift.label))
    return Comparison(tuple(shifts), tuple(classes), unlikeness)


def _vector_details(shift: VectorShift) -> dict[str, float]:
    return {
        "frechet": shift.frechet,
        "frechet_by_chance": shift.frechet_by_chance,
        "mmd": shift.mmd,
        "dimensions": shift.dimensions,
        "variance_share": shift.variance_share,
    }


def _count_labels(reference: Any, labels: Any) -> tuple[list[str], list[npt.NDArray[np.int64]]]:
    """The names of all labels, and how many images of both samples have each."""
    counted = [pc.value_counts(pc.fill_null(pc.cast(part, pa.string()), _NO_LABEL)) for part in (reference, labels)]
    numbers = [
        dict(zip(part.field("values").to_pylist(), part.field("counts").to_pylist(), strict=True)) for part in counted
    ]
    names = sorted(numbers[0].keys() | numbers[1].keys())
    return names, [np.array([part.get(name, 0) for name in names], np.int64) for part in numbers]
