"""Vectors of images, which are a column and no elements."""

from __future__ import annotations

from collections.abc import Sequence

from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import EMBEDDING


def vector_columns(model: ModelSpec) -> Sequence[str]:
    """The column with the vectors of a model; none if it gives something else."""
    return [f"{model.alias}_vector"] if model.task == EMBEDDING.name else []
