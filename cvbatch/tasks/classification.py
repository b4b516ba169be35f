"""Classification: the best class and the best k of each image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.columns import lists, names


def columns(spec: ModelSpec, scores: npt.NDArray[np.float32]) -> list[pa.Array]:
    """Turn class scores into columns.

    Args:
        spec: Its categories name the classes; those without a name are never emitted.
        scores: Float32, (images, classes).

    Returns:
        One array per field of `spec.fields()`, in their order. Of equal scores the lower label id is first.
    """
    named = np.flatnonzero([name is not None for name in spec.categories])
    order = np.argsort(-scores[:, named], axis=1, kind="stable")[:, : spec.top_k]
    ids = named[order].astype(np.int32)
    best = np.take_along_axis(scores, ids, axis=1)
    label_ids, flat_scores = pa.array(ids.reshape(-1)), pa.array(best.reshape(-1))
    labels = names(spec).take(label_ids)
    lengths = np.full(len(ids), ids.shape[1])
    first = pa.array(np.arange(len(ids)) * ids.shape[1])
    flats = [labels, label_ids, flat_scores]
    return [array.take(first) for array in flats] + [lists(array, lengths) for array in flats]
