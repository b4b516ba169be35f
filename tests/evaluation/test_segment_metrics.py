"""IoU and pixel accuracy equal those of torchmetrics and scikit-learn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn import metrics
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from cvbatch.evaluation.segment_metrics import IGNORED, PixelCounts, count_cells

CLASSES = 6


def random_maps(images: int = 12, seed: int = 4) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Blocks of classes; class 5 never occurs, class 4 in the predictions only, and some pixels are ignored."""
    generator = np.random.default_rng(seed)
    maps = []
    for _ in range(images):
        truth = np.kron(generator.integers(0, 4, (3, 4)), np.ones((8, 9), np.int64))
        predicted = np.where(generator.random(truth.shape) < 0.3, generator.integers(0, 5, truth.shape), truth)
        truth = np.where(generator.random(truth.shape) < 0.1, IGNORED, truth)
        maps.append((truth, predicted))
    return maps


def counted(maps: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]) -> PixelCounts:
    counts = PixelCounts(CLASSES)
    for truth, predicted in maps:
        counts.add_image(truth, predicted)
    return counts


def test_rates_equal_those_of_torchmetrics() -> None:
    maps = random_maps()
    report = counted(maps).report()
    truth, predicted = (torch.from_numpy(np.concatenate([pair[side] for pair in maps])) for side in (0, 1))
    options = {"num_classes": CLASSES, "ignore_index": IGNORED, "average": "none"}
    iou = multiclass_jaccard_index(predicted, truth, **options).numpy()
    assert report.classes.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([estimate.value for estimate in report.iou], iou[:5], atol=1e-6)
    assert report.mean_iou.value == pytest.approx(iou[:5].mean(), abs=1e-6)
    recall = multiclass_accuracy(predicted, truth, **options).numpy()
    assert report.mean_accuracy.value == pytest.approx(recall[:4].mean(), abs=1e-6)
    valid = truth != IGNORED
    assert report.pixel_accuracy.value == pytest.approx(metrics.accuracy_score(truth[valid], predicted[valid]))
    assert report.truth_pixels.sum() == int(valid.sum())


def test_intervals_are_those_of_drawing_images() -> None:
    maps = random_maps(40)
    estimate = counted(maps).report().mean_iou
    generator = np.random.default_rng(0)
    drawn = [counted([maps[index] for index in generator.integers(0, 40, 40)]).report().mean_iou for _ in range(60)]
    low, high = np.quantile([one.value for one in drawn], [0.025, 0.975])
    assert estimate.low < estimate.value < estimate.high
    np.testing.assert_allclose([estimate.low, estimate.high], [low, high], atol=0.006)


def test_confusion_equals_that_of_scikit_learn() -> None:
    maps = random_maps()
    counts = counted(maps)
    truth, predicted = (np.concatenate([pair[side].ravel() for pair in maps]) for side in (0, 1))
    valid = truth != IGNORED
    expected = metrics.confusion_matrix(truth[valid], predicted[valid], labels=range(CLASSES))
    assert {(row, column): pixels for row, column, pixels in counts.confusion()} == {
        (int(row), int(column)): int(expected[row, column]) for row, column in np.argwhere(expected)
    }
    wrong = expected - np.diag(expected.diagonal())
    assert counts.most_confused(1)[0][2] == wrong.max()


def test_many_classes_are_counted_the_same() -> None:
    for truth, predicted in random_maps(2):
        few_classes, few = count_cells(truth, predicted)
        far = np.where(truth == IGNORED, IGNORED, truth * 1000), predicted * 1000
        many_classes, many = count_cells(*far)
        assert many_classes.tolist() == (few_classes * 1000).tolist()
        assert many.tolist() == few.tolist()


def test_a_pixel_without_an_answer_is_an_error_of_its_true_class() -> None:
    counts = PixelCounts(2)
    counts.add_image(np.array([[0, 1, 1, IGNORED]]), np.array([[0, 1, 2, 2]]))
    report = counts.report()
    assert [estimate.value for estimate in report.iou] == [1.0, 0.5]
    assert report.pixel_accuracy.value == pytest.approx(2 / 3)
    assert counts.most_confused(5) == [(1, 2, 1)]


def test_without_images_nothing_is_defined() -> None:
    report = PixelCounts(2).report()
    assert report.classes.tolist() == []
    assert report.mean_iou.to_json() == {"value": None, "low": None, "high": None}
