"""The calibration error equals that of torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from cvbatch.evaluation.calibration import CALIBRATION_BINS, calibration_bins, calibration_error
from cvbatch.evaluation.class_metrics import LabelledImages
from tests.evaluation.test_class_metrics import labelled, random_images


def test_the_error_equals_that_of_torchmetrics() -> None:
    scores, truth = random_images()
    expected = multiclass_calibration_error(
        torch.from_numpy(scores), torch.from_numpy(truth), num_classes=scores.shape[1], n_bins=CALIBRATION_BINS
    )
    estimate = calibration_error(labelled(scores, truth))
    assert estimate.value == pytest.approx(float(expected), abs=1e-6)
    assert estimate.low < estimate.high


def test_bins_add_up_to_the_error() -> None:
    images = labelled(*random_images())
    bins = calibration_bins(images)
    weighted = sum(part.images * abs(part.accuracy - part.mean_score) for part in bins)
    assert sum(part.images for part in bins) == len(images.truth)
    assert weighted / len(images.truth) == pytest.approx(calibration_error(images).value, abs=1e-9)
    assert all(part.low < part.mean_score <= part.high for part in bins)


def test_a_score_on_an_edge_belongs_to_the_lower_bin() -> None:
    count = 2
    images = LabelledImages(
        truth=np.zeros(count, np.int32),
        predicted=np.zeros(count, np.int32),
        ranks=np.zeros(count, np.int8),
        scores=np.array([0.0, 1.0], np.float32),
    )
    assert [(part.low, part.high) for part in calibration_bins(images)] == [
        (0.0, 1 / CALIBRATION_BINS),
        (1 - 1 / CALIBRATION_BINS, 1.0),
    ]
    assert calibration_error(images).value == pytest.approx(0.5)
