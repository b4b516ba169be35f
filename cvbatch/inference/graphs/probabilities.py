"""Scores of graphs as probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cvbatch.models.graphs.reading import GraphReading


def to_probabilities(numbers: npt.NDArray[Any], reading: GraphReading) -> npt.NDArray[Any]:
    """Turn scores into probabilities along the last axis, as a reading says."""
    with np.errstate(over="ignore", invalid="ignore"):  # scores that are no numbers are refused later
        if reading.scores == "sigmoid":
            probabilities: npt.NDArray[Any] = 1 / (1 + np.exp(-numbers))
            return probabilities
        if reading.scores == "softmax":
            powers = np.exp(numbers - numbers.max(axis=-1, keepdims=True))
            probabilities = powers / powers.sum(axis=-1, keepdims=True)
            return probabilities
    return numbers
