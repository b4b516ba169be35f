"""Margins and entropies equal their definitions, and the missing rest of the scores gives a lower bound."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import entropy

from cvbatch.results.certainty import box_entropies, box_margins, class_entropies, class_margins


def test_margins_of_classes() -> None:
    scores = np.array([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]], np.float32)
    assert class_margins(scores) == pytest.approx([0, 0.8, 1], abs=1e-6)
    assert class_margins(np.array([[0.4], [0.7]])) == pytest.approx([0, 0.4])


def test_entropy_of_all_scores_is_exact() -> None:
    scores = -np.sort(-np.random.default_rng(0).dirichlet(np.ones(6), 50), axis=1)
    assert class_entropies(scores, 6) == pytest.approx(entropy(scores, axis=1) / np.log(6))
    assert class_entropies(np.full((1, 4), 0.25), 4) == pytest.approx([1])


def test_entropy_of_the_best_scores_is_a_lower_bound_that_grows_with_k() -> None:
    scores = -np.sort(-np.random.default_rng(1).dirichlet(np.full(20, 0.3), 200), axis=1)
    exact = entropy(scores, axis=1) / np.log(20)
    bounds = [class_entropies(scores[:, :k], 20) for k in (1, 2, 5, 20)]
    for lower, higher in itertools.pairwise(bounds):
        assert (lower <= higher + 1e-9).all()
    assert bounds[-1] == pytest.approx(exact)
    assert (exact - bounds[2]).mean() < 0.1


def test_scores_over_one_in_sum_are_shares() -> None:
    assert class_entropies(np.array([[0.9, 0.9]]), 2) == pytest.approx([1])


def test_values_of_boxes() -> None:
    scores = np.array([0.0, 0.25, 0.5, 1.0])
    assert box_margins(scores) == pytest.approx([0, 0.25, 1, 0])
    assert box_entropies(scores) == pytest.approx([0, entropy([0.25, 0.75], base=2), 1, 0], abs=1e-9)
