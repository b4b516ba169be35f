"""Embedding: one feature vector for each image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.images.preprocess import Size
from cvbatch.schema import FLOATS, HALVES
from cvbatch.tasks.arrow import split_into_lists
from cvbatch.tasks.base import Agreement, BatchSizes, Columns, ModelFacts, Task
from cvbatch.tasks.output_checks import Array, replace_impossible, to_number_rows

_HALF: Final = "float16"
_LARGEST_HALF: Final = 65504.0
_SMALLEST_LENGTH: Final = 1e-12
COSINE: Final = 0.999
"""The tolerance of the parity certificate: the smallest cosine between two vectors of one image."""


class EmbeddingTask(Task):
    """An answer is a float32 vector, (dimension,)."""

    name = "embedding"
    default_model = "efficientnet_lite0"
    options = ("normalize", "dtype")
    facts = frozenset({"dimension"})
    batch_sizes = BatchSizes(cpu=8, cuda=128)
    has_labels = False

    def column_types(self, model: ModelFacts) -> dict[str, pa.DataType]:
        """See `Task.column_types`."""
        return {"vector": HALVES if model.dtype == _HALF else FLOATS}

    def to_columns(self, model: ModelFacts, answers: Sequence[Any]) -> dict[str, pa.Array]:
        """See `Task.to_columns`; with `normalize`, a vector of zeros stays unchanged."""
        vectors: npt.NDArray[np.float32] = np.stack(answers)
        if model.normalize:
            with np.errstate(over="ignore"):
                lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            if not np.isfinite(lengths).all():  # the squares overflow float32
                lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
            vectors = vectors / np.maximum(lengths, _SMALLEST_LENGTH)
        values = pa.array(vectors.astype(model.dtype).reshape(-1))
        return {"vector": split_into_lists(values, np.full(len(vectors), vectors.shape[1]))}

    def take_answers(self, outputs: Any, model: ModelFacts) -> Sequence[Any]:
        """Return the outputs' `vectors`."""
        vectors: Sequence[Any] = outputs.vectors
        return vectors

    def parse_answers(self, model: ModelFacts, raw: Any, sizes: Sequence[Size], *, logits: bool) -> Sequence[Any]:
        """See `Task.parse_answers`: vectors, (images, dimension)."""
        return list(to_number_rows(model, "vector", raw, (len(sizes), model.dimension)))

    def check_answers(self, model: ModelFacts, answers: Sequence[Any]) -> Sequence[Any]:
        """See `Task.check_answers`: numbers are finite, and fit the type of the column."""
        largest = float(np.finfo(np.float32).max)
        if model.dtype == _HALF and not model.normalize:
            largest = _LARGEST_HALF
        return replace_impossible(answers, -largest, largest, partial(_explain_vector, model))

    def compare_columns(self, reference: Columns, candidate: Columns, sizes: Sequence[Size]) -> Agreement:
        """See `Task.compare_columns`: by the angles between the vectors."""
        expected, actual = (_to_vector_array(columns["vector"]) for columns in (reference, candidate))
        lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(actual, axis=1)
        cosines = (expected * actual).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)
        smallest = float(cosines.min()) if len(cosines) else 0.0
        mean = float(cosines.mean()) if len(cosines) else 0.0
        return {"smallest_cosine": smallest, "mean_cosine": mean}, smallest >= COSINE


EMBEDDING: Final = EmbeddingTask()


def _explain_vector(model: ModelFacts, row: Array) -> str:
    finite = np.isfinite(row)
    position = int((~finite).argmax()) if not finite.all() else int(np.abs(row).argmax())
    message = (
        f"expected finite numbers that fit {model.dtype}, got {row[position]:g} at position {position} of the vector"
    )
    return f"{model.alias or model.name}: {message}"


def _to_vector_array(column: pa.Array) -> npt.NDArray[np.float64]:
    return np.array(column.drop_null().to_pylist(), np.float64)
