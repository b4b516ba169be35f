"""Which images would change a model most, and in different directions: gradients of the last layer.

Ash et al. 2020, "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds" (BADGE): if the model's best
answer were right, the gradient of the loss by the weights of the last layer would be `(p − onehot(best)) ⊗ embedding`.
Its length says how unsure the model is, its direction of what. Only the first factor and the embedding are kept, as
products of two such gradients are products of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ClassWeights:
    """The first factor of each gradient: the classes that it is about, with a weight each."""

    ids: npt.NDArray[np.integer[Any]]
    """(rows, k), label ids from 0."""
    weights: npt.NDArray[np.float64]
    """(rows, k)"""


def weights_of_scores(top_ids: npt.NDArray[np.integer[Any]], top_scores: npt.NDArray[Any]) -> ClassWeights:
    """`p − onehot(best)` for the classes that are stored; the others have so little weight that they are left out.

    Args:
        top_ids: (rows, k), best first.
        top_scores: (rows, k)
    """
    weights = top_scores.astype(np.float64)
    weights[:, 0] -= 1
    return ClassWeights(top_ids, weights)


def weights_of_values(label_ids: npt.NDArray[np.integer[Any]], values: npt.NDArray[np.float64]) -> ClassWeights:
    """One class for each image, with what the model is unsure of as its weight: for boxes and segments.

    Args:
        label_ids: (rows,); -1 if the model names none.
        values: (rows,)
    """
    return ClassWeights((label_ids + 1)[:, None], values[:, None])


class GradientDistances:
    """Squared distances of gradients from those that are chosen.

    Args:
        classes: First factors.
        vectors: float32 (rows, dimension), of length 1.
    """

    def __init__(self, classes: ClassWeights, vectors: Floats32) -> None:
        self._classes, self._vectors = classes, vectors
        self._lengths = np.square(classes.weights).sum(axis=1)
        self._dense = np.zeros(int(classes.ids.max(initial=0)) + 1)
        self.nearest = self._lengths.copy()
        """(rows,), the squared distance from the nearest chosen gradient; before there is one, from 0."""

    def add(self, index: int) -> None:
        """Count the gradient of a row as chosen."""
        ids, weights = self._classes.ids, self._classes.weights
        self._dense[ids[index]] = weights[index]
        products = (weights * self._dense[ids]).sum(axis=1) * (self._vectors @ self._vectors[index])
        self._dense[ids[index]] = 0
        distances = self._lengths + self._lengths[index] - 2 * products
        self.nearest = np.maximum(np.minimum(self.nearest, distances), 0)
