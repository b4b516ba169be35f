"""Embedding: one feature vector for each image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.arrow import lists

_SMALLEST_LENGTH = 1e-12


def columns(spec: ModelSpec, vectors: npt.NDArray[np.float32]) -> list[pa.Array]:
    """Turn feature vectors into a column.

    Args:
        spec: Tells whether to scale vectors to length 1, and their type.
        vectors: Float32, (images, dimension).

    Returns:
        One array per field of `spec.fields()`. A vector of zeros stays one.
    """
    if spec.normalize:
        with np.errstate(over="ignore"):
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(lengths).all():  # the squares are more than a float32 holds
            lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        vectors = vectors / np.maximum(lengths, _SMALLEST_LENGTH)
    values = pa.array(vectors.astype(spec.dtype).reshape(-1))
    return [lists(values, np.full(len(vectors), vectors.shape[1]))]
