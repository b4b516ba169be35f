"""Accuracy, precision, recall and F1 equal those of scikit-learn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics

from cvbatch.evaluation.class_metrics import (
    NOT_RANKED,
    LabelledImages,
    count_confusion,
    most_confused,
    report_classes,
    top_accuracy,
)


def labelled(scores: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], best: int = 5) -> LabelledImages:
    order = np.argsort(-scores, axis=1)[:, :best]
    is_truth = order == truth[:, None]
    return LabelledImages(
        truth=truth.astype(np.int32),
        predicted=order[:, 0].astype(np.int32),
        ranks=np.where(is_truth.any(axis=1), is_truth.argmax(axis=1), NOT_RANKED).astype(np.int8),
        scores=scores.max(axis=1).astype(np.float32),
    )


def random_images(classes: int = 12, images: int = 500) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    generator = np.random.default_rng(classes)
    truth = generator.integers(0, classes - 2, images)  # the last two classes occur in answers only
    logits = generator.normal(size=(images, classes)) + 2 * np.eye(classes)[truth]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), truth


def test_rates_equal_those_of_scikit_learn() -> None:
    scores, truth = random_images()
    images = labelled(scores, truth)
    report = report_classes(count_confusion(images))
    expected = metrics.precision_recall_fscore_support(truth, images.predicted, zero_division=0)
    for mine, theirs in zip((report.precision, report.recall, report.f1), expected[:3], strict=True):
        np.testing.assert_allclose([estimate.value for estimate in mine], theirs, atol=1e-12)
    assert report.support.tolist() == expected[3].tolist()
    assert report.predicted.tolist() == np.bincount(images.predicted).tolist()
    macro = metrics.precision_recall_fscore_support(truth, images.predicted, average="macro", zero_division=0)[:3]
    means = (report.macro_precision, report.macro_recall, report.macro_f1)
    np.testing.assert_allclose([estimate.value for estimate in means], macro, atol=1e-12)
    recall_of_true = [estimate.value for estimate, count in zip(report.recall, report.support, strict=True) if count]
    assert report.balanced_accuracy.value == pytest.approx(np.mean(recall_of_true))


def test_top_accuracy_equals_that_of_scikit_learn() -> None:
    scores, truth = random_images()
    images = labelled(scores, truth)
    for best in (1, 5):
        expected = metrics.top_k_accuracy_score(truth, scores, k=best, labels=np.arange(scores.shape[1]))
        estimate = top_accuracy(images, best)
        assert estimate.value == pytest.approx(expected)
        assert estimate.low < estimate.value < estimate.high


def test_the_interval_is_that_of_drawing_images() -> None:
    scores, truth = random_images(images=150)
    images = labelled(scores, truth)
    estimate = report_classes(count_confusion(images)).macro_f1
    generator = np.random.default_rng(0)
    drawn = [generator.integers(0, 150, 150) for _ in range(400)]
    scored = [
        metrics.f1_score(truth[index], images.predicted[index], average="macro", zero_division=0) for index in drawn
    ]
    np.testing.assert_allclose([estimate.low, estimate.high], np.quantile(scored, [0.025, 0.975]), atol=0.02)


def test_the_confusion_matrix_is_sparse_and_its_errors_are_ranked() -> None:
    truth = np.array([0, 0, 0, 7, 7, 5], np.int32)
    predicted = np.array([0, 5, 5, 0, 7, 5], np.int32)
    ranks = np.where(truth == predicted, 0, 1).astype(np.int8)
    images = LabelledImages(truth=truth, predicted=predicted, ranks=ranks, scores=np.ones(6, np.float32))
    confusion = count_confusion(images)
    dense = metrics.confusion_matrix(truth, predicted, labels=confusion.classes)
    rows, columns = (np.searchsorted(confusion.classes, ids) for ids in (confusion.truth, confusion.predicted))
    assert dense[rows, columns].tolist() == confusion.counts.tolist()
    assert confusion.counts.sum() == 6
    assert most_confused(confusion, 2) == [(0, 5, 2), (7, 0, 1)]
    assert most_confused(confusion, 1) == [(0, 5, 2)]
