"""Boundaries equal those of scikit-image, and their agreement that of exact distances of SciPy."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from skimage.segmentation import find_boundaries

from cvbatch.evaluation.boundary_f1 import BOUNDARY_TOLERANCE, boundary_f1, boundary_mask
from cvbatch.truth.base import IGNORED


def smooth_map(seed: int, height: int = 300, width: int = 410) -> npt.NDArray[np.int64]:
    noise = np.random.default_rng(seed).normal(size=(4, height, width))
    return ndimage.gaussian_filter(noise, (0, 15, 15)).argmax(axis=0)


def expected_f1(truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]) -> dict[int, float]:
    """Without ignored pixels."""
    radius, scores = BOUNDARY_TOLERANCE * math.hypot(*truth.shape), {}
    for label in range(4):
        edges = [find_boundaries(side + 1, connectivity=1) & (side == label) for side in (truth, predicted)]
        near = [ndimage.distance_transform_edt(~edge) <= radius for edge in edges]
        recall, precision = (edges[0] & near[1]).sum() / edges[0].sum(), (edges[1] & near[0]).sum() / edges[1].sum()
        scores[label] = 2 * precision * recall / (precision + recall)
    return scores


@pytest.mark.parametrize("shift", [0, 3, 6])
def test_the_score_equals_that_of_exact_distances(shift: int) -> None:
    truth = smooth_map(1)
    predicted = np.where(np.arange(410) < 200, np.roll(truth, shift, axis=0), smooth_map(2))
    classes, scores = boundary_f1(truth, predicted)
    assert dict(zip(classes.tolist(), scores.tolist(), strict=True)) == pytest.approx(expected_f1(truth, predicted))


def test_boundaries_are_those_of_scikit_image() -> None:
    labels = smooth_map(3)
    np.testing.assert_array_equal(boundary_mask(labels), find_boundaries(labels + 1, connectivity=1))


def test_equal_maps_score_one_and_far_boundaries_score_zero() -> None:
    labels = smooth_map(4)
    assert set(boundary_f1(labels, labels)[1]) == {1.0}
    halves = np.repeat([[0, 1]], 50, axis=1).repeat(100, axis=0)
    assert boundary_f1(halves, np.roll(halves, 10, axis=1))[1].max() < 1
    assert boundary_f1(halves, halves.T.copy())[1].max() < 0.2


def test_a_class_of_one_map_scores_zero_and_a_map_of_one_class_has_none() -> None:
    one_class, two = np.zeros((40, 40), np.int64), np.zeros((40, 40), np.int64)
    two[10:20, 10:20] = 3
    classes, scores = boundary_f1(two, one_class)
    assert (classes.tolist(), scores.tolist()) == ([0, 3], [0.0, 0.0])
    assert boundary_f1(one_class, one_class)[0].tolist() == []


def test_ignored_pixels_have_no_boundary() -> None:
    truth = np.zeros((40, 40), np.int64)
    truth[:, 20:] = 1
    hidden = truth.copy()
    hidden[:, 15:25] = IGNORED
    assert boundary_f1(hidden, 1 - truth)[0].tolist() == []
    assert boundary_f1(truth, np.roll(truth, 1, axis=1))[0].tolist() == [0, 1]
