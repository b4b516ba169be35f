"""IoU and pixel accuracy equal those of torchmetrics and scikit-learn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn import metrics
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from cvbatch.evaluation.segment_metrics import count_cells, segment_rates
from cvbatch.truth.base import IGNORED

CLASSES = 6
LabelMaps = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def random_maps(images: int = 12, seed: int = 4) -> list[LabelMaps]:
    """Blocks of classes; class 5 never occurs, class 4 in the predictions only, and some pixels are ignored."""
    generator = np.random.default_rng(seed)
    maps = []
    for _ in range(images):
        truth = np.kron(generator.integers(0, 4, (3, 4)), np.ones((8, 9), np.int64))
        predicted = np.where(generator.random(truth.shape) < 0.3, generator.integers(0, 5, truth.shape), truth)
        truth = np.where(generator.random(truth.shape) < 0.1, IGNORED, truth)
        maps.append((truth, predicted))
    return maps


def summed(maps: list[LabelMaps], classes: int = CLASSES) -> npt.NDArray[np.float64]:
    """Sums of pixels, (1, 3 × classes)."""
    sums = np.zeros((3, classes + 1))
    for truth, predicted in maps:
        present, cells = count_cells(truth, predicted)
        sums[:, present] += [cells.diagonal(), cells.sum(axis=1), cells.sum(axis=0)]
    return sums[:, :classes].reshape(1, -1)


def test_rates_equal_those_of_torchmetrics() -> None:
    maps = random_maps()
    rates = segment_rates(summed(maps), CLASSES)[0]
    truth, predicted = (torch.from_numpy(np.concatenate([pair[side] for pair in maps])) for side in (0, 1))
    options = {"num_classes": CLASSES, "ignore_index": IGNORED, "average": "none"}
    iou = multiclass_jaccard_index(predicted, truth, **options).numpy()
    np.testing.assert_allclose(rates[:5], iou[:5], atol=1e-6)
    assert np.isnan(rates[5])
    recall = multiclass_accuracy(predicted, truth, **options).numpy()
    valid = truth != IGNORED
    accuracy = metrics.accuracy_score(truth[valid], predicted[valid])
    np.testing.assert_allclose(rates[6:], [iou[:5].mean(), accuracy, recall[:4].mean()], atol=1e-6)
    chosen = np.arange(CLASSES) < 2
    assert segment_rates(summed(maps), CLASSES, chosen)[0, 6] == pytest.approx(iou[:2].mean(), abs=1e-6)


def test_cells_equal_the_confusion_matrix_of_scikit_learn() -> None:
    for truth, predicted in random_maps(3):
        valid = truth != IGNORED
        present, cells = count_cells(truth, predicted)
        expected = metrics.confusion_matrix(truth[valid], predicted[valid], labels=present)
        assert cells.tolist() == expected.tolist()
        assert cells.sum() == valid.sum()


def test_many_classes_are_counted_the_same() -> None:
    for truth, predicted in random_maps(2):
        few_classes, few = count_cells(truth, predicted)
        far = np.where(truth == IGNORED, IGNORED, truth * 1000), predicted * 1000
        many_classes, many = count_cells(*far)
        assert many_classes.tolist() == (few_classes * 1000).tolist()
        assert many.tolist() == few.tolist()


def test_a_pixel_without_an_answer_is_an_error_of_its_true_class() -> None:
    rates = segment_rates(summed([(np.array([[0, 1, 1, IGNORED]]), np.array([[0, 1, 2, 2]]))], 2), 2)[0]
    np.testing.assert_allclose(rates, [1, 0.5, 0.75, 2 / 3, 0.75])


def test_without_pixels_nothing_is_defined() -> None:
    assert np.isnan(segment_rates(np.zeros((1, 6)), 2)).all()
