"""How sure a model is of its answers, from the scores that are stored."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]


def class_margins(top_scores: Floats) -> Floats:
    """The lead of the best class over the second one (Scheffer et al. 2001).

    Args:
        top_scores: (rows, k), best first. With k = 1 nothing is known of the second class but that it has at most the
            rest, and at most the first one's score, so that is taken.

    Returns:
        float64 (rows,), from 0 (undecided) to 1 (sure).
    """
    scores = np.clip(top_scores, 0, 1, dtype=np.float64)
    best = scores[:, 0]
    second = scores[:, 1] if scores.shape[1] > 1 else np.minimum(best, 1 - best)
    margins: Floats = best - second
    return margins


def class_entropies(top_scores: Floats, classes: int) -> Floats:
    """Entropy of the scores of all classes, of which only the best k are stored.

    What is missing to a sum of 1 belongs to classes that are not stored. None of them has more than the last stored
    score, so this share `rest` adds at least `rest × log(1 / last score)`, and exactly that is added: the result is a
    lower bound, and exact if the k best are all that matter. Scores with a sum over 1, of models that answer for each
    class alone, are divided by their sum.

    Args:
        top_scores: (rows, k), best first.
        classes: Number of classes of the model.

    Returns:
        float64 (rows,), from 0 (sure) to 1 (all classes are equally likely): divided by the logarithm of `classes`.
    """
    scores = np.clip(top_scores, 0, 1, dtype=np.float64)
    scores = scores / np.maximum(scores.sum(axis=1, keepdims=True), 1)
    rest = np.maximum(1 - scores.sum(axis=1), 0)
    tiny = np.finfo(np.float64).tiny
    stored = -(scores * np.log(np.maximum(scores, tiny))).sum(axis=1)
    hidden = -rest * np.log(np.maximum(np.minimum(scores[:, -1], rest), tiny))
    largest = np.log(max(classes, 2))
    entropies: Floats = np.minimum((stored + np.where(rest > 0, hidden, 0)) / largest, 1)
    return entropies


def box_margins(scores: Floats) -> Floats:
    """The value of a box by its margin, `(1 − (p₁ − p₂))²` (Brust et al. 2019, "1-vs-2").

    One score is stored for each box, so the second answer is that the box is not of this class: p₂ = 1 − p₁.

    Args:
        scores: (boxes,), from 0 to 1.

    Returns:
        float64 (boxes,), from 0 (sure) to 1 (a score of 0.5).
    """
    probabilities = np.clip(scores, 0, 1, dtype=np.float64)
    margins: Floats = np.square(1 - np.abs(2 * probabilities - 1))
    return margins


def box_entropies(scores: Floats) -> Floats:
    """Entropy of "of this class" against "not of this class", in bits.

    Args:
        scores: (boxes,), from 0 to 1.

    Returns:
        float64 (boxes,), from 0 (sure) to 1 (a score of 0.5).
    """
    inside = np.clip(scores, 1e-12, 1 - 1e-12, dtype=np.float64)
    entropies: Floats = -(inside * np.log2(inside) + (1 - inside) * np.log2(1 - inside))
    return entropies
