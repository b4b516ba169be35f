"""Classification: the best class and the best k of each image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.arrow import lists, names


def columns(spec: ModelSpec, scores: npt.NDArray[np.float32]) -> list[pa.Array]:
    """Turn class scores into columns.

    Args:
        spec: Its categories name the classes; those without a name are never emitted.
        scores: Float32, (images, classes).

    Returns:
        One array per field of `spec.fields()`, in their order. Of equal scores the lower label id is first.
    """
    named = np.flatnonzero([name is not None for name in spec.categories])
    ids = named[best_of(scores if len(named) == scores.shape[1] else scores[:, named], spec.top_k)].astype(np.int32)
    best = np.take_along_axis(scores, ids, axis=1)
    label_ids, flat_scores = pa.array(ids.reshape(-1)), pa.array(best.reshape(-1))
    labels = names(spec).take(label_ids)
    lengths = np.full(len(ids), ids.shape[1])
    first = pa.array(np.arange(len(ids)) * ids.shape[1])
    flats = [labels, label_ids, flat_scores]
    return [array.take(first) for array in flats] + [lists(array, lengths) for array in flats]


def best_of(scores: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Find the highest scores of each row, an eighth of the work of sorting all thousand of ImageNet's.

    Args:
        scores: (rows, classes).
        count: How many to find.

    Returns:
        Their positions, (rows, at most count), the best first; of equal scores the lower position.
    """
    count = min(count, scores.shape[1])
    last = np.partition(scores, -count, axis=1)[:, -count, None]
    found = np.empty((len(scores), count), np.int64)
    enough = scores >= last
    # whose last score is not that of one more
    alone = np.count_nonzero(enough, axis=1) == count
    found[alone] = np.nonzero(enough[alone])[1].reshape(-1, count)
    order = np.argsort(-np.take_along_axis(scores[alone], found[alone], axis=1), axis=1, kind="stable")
    found[alone] = np.take_along_axis(found[alone], order, axis=1)
    found[~alone] = np.argsort(-scores[~alone], axis=1, kind="stable")[:, :count]
    return found
