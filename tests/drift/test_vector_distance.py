"""Distances of vectors equal their definitions, are flagged when there is a shift, and hold their level without."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from cvbatch.drift.vector_distance import compare_vectors, frechet_distance


def test_the_frechet_distance_is_that_of_the_formula() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(500, 6)), random.normal(0.3, 1.5, size=(400, 6)) @ random.normal(size=(6, 6))
    covariances = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    shift = first.mean(axis=0) - second.mean(axis=0)
    expected = shift @ shift + np.trace(sum(covariances) - 2 * sqrtm(covariances[0] @ covariances[1]).real)
    assert frechet_distance(first, second) == pytest.approx(expected)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_random_features_estimate_the_discrepancy_of_the_kernel() -> None:
    random = np.random.default_rng(1)
    first, second = random.normal(size=(700, 8)), random.normal(0.4, size=(600, 8))
    both = np.concatenate([first, second])
    distances = np.square(both[:, None] - both).sum(axis=2)
    kernel = np.exp(-distances / (2 * np.median(distances[np.triu_indices(1300, 1)])))
    within = [
        (part.sum() - len(part)) / (len(part) * (len(part) - 1)) for part in (kernel[:700, :700], kernel[700:, 700:])
    ]
    shift = compare_vectors(first, second, 0)
    assert shift.mmd == pytest.approx(sum(within) - 2 * kernel[:700, 700:].mean(), rel=0.2)
    assert shift.p == 1 / 500
    assert shift.effect == pytest.approx(0.4, abs=0.1)
    witness = kernel[700:, 700:].mean(axis=1) - kernel[700:, :700].mean(axis=1)
    assert np.corrcoef(witness, shift.unlikeness)[0, 1] > 0.9


def test_halves_are_alike_and_other_spreads_are_not() -> None:
    random = np.random.default_rng(2)
    shifts = [compare_vectors(*np.split(random.normal(size=(300, 40)), 2), seed) for seed in range(40)]
    assert sum(shift.p < 0.05 for shift in shifts) <= 6
    wide = compare_vectors(random.normal(size=(300, 40)), random.normal(0, 1.5, size=(300, 40)), 0)
    assert (wide.p, wide.dimensions) == (1 / 500, 30)
    assert wide.effect > 0.3


def test_vectors_without_spread() -> None:
    same = compare_vectors(np.ones((30, 3), np.float16), np.ones((30, 3), np.float16), 0)
    assert (same.effect, same.p) == (0, 1)
