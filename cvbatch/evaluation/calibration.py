"""Whether scores can be read as probabilities: expected calibration error and the reliability diagram.

Guo et al., "On Calibration of Modern Neural Networks", 2017, equation 3: scores of the best class in bins of equal
width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvbatch.evaluation.bootstrap import Estimate, Floats, Ints, draw_estimates, resample_metrics
from cvbatch.evaluation.class_metrics import LabelledImages

CALIBRATION_BINS: Final = 15
"""As in the experiments of Guo et al."""
_STEPS: Final = 256
"""Parts of a bin whose images count as one group in a draw, with their mean score."""


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Images whose score lies in one bin."""

    low: float
    """Scores are larger than this, in the first bin at least this."""
    high: float
    images: int
    mean_score: float
    accuracy: float
    """Share of right answers; a model with `accuracy` below `mean_score` is too sure."""


def calibration_bins(images: LabelledImages) -> list[CalibrationBin]:
    """The bins that are not empty, from low scores to high ones."""
    bins = _bin_indices(images, CALIBRATION_BINS)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    scores = np.bincount(bins, images.scores, CALIBRATION_BINS) / np.maximum(counts, 1)
    accuracies = np.bincount(bins, images.ranks == 0, CALIBRATION_BINS) / np.maximum(counts, 1)
    return [
        CalibrationBin(
            index / CALIBRATION_BINS,
            (index + 1) / CALIBRATION_BINS,
            int(counts[index]),
            float(scores[index]),
            float(accuracies[index]),
        )
        for index in np.flatnonzero(counts)
    ]


def calibration_error(images: LabelledImages) -> Estimate:
    """Expected calibration error, from 0 to 1: mean over images of |accuracy − mean score| of their bin."""
    fine = _bin_indices(images, CALIBRATION_BINS * _STEPS) * 2 + (images.ranks == 0)
    groups, members, counts = np.unique(fine, return_inverse=True, return_counts=True)
    is_hit = groups % 2
    gaps = is_hit - np.bincount(members, images.scores) / counts
    starts_bins = groups // 2 // _STEPS
    starts = np.flatnonzero(np.diff(starts_bins, prepend=-1))

    def errors(resampled: Ints) -> Floats:
        sums = np.add.reduceat(resampled * gaps, starts, axis=1)
        mean: Floats = np.abs(sums).sum(axis=1, keepdims=True) / len(images.scores)
        return mean

    return draw_estimates(errors(counts[None])[0], resample_metrics(counts, errors))[0]


def calibration_sums(images: LabelledImages) -> Floats:
    """What each image adds to the bins: right answer (0 or 1) minus score, in its bin, (images, bins).

    The expected calibration error is the sum of the absolute sums of the bins, divided by the number of images.
    """
    gaps = np.zeros((len(images.scores), CALIBRATION_BINS))
    bins = _bin_indices(images, CALIBRATION_BINS)
    gaps[np.arange(len(bins)), bins] = (images.ranks == 0) - images.scores.astype(np.float64)
    return gaps


def _bin_indices(images: LabelledImages, bins: int) -> Ints:
    """Bin of each score; a score on an edge belongs to the lower bin."""
    positions = np.ceil(images.scores.astype(np.float64) * bins).astype(np.int64) - 1
    return np.clip(positions, 0, bins - 1)
