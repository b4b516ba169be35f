"""Agreement between the answers of a faster setting and those of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvbatch.images.preprocess import Size
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS
from cvbatch.tasks.base import Columns


def compare_answers(spec: ModelSpec, reference: Columns, candidate: Columns, sizes: Sequence[Size]) -> dict[str, Any]:
    """Compare the answers of one model.

    Args:
        spec: The model.
        reference: Columns of the predictions at fp32 with full decoding; may include other models' columns.
        candidate: The same columns at another setting, for the same images in the same order.
        sizes: (width, height) of each oriented original.

    Returns:
        The measured agreement by name, and `passed`: whether all of it is within the tolerances.
    """
    task = TASKS[spec.task]
    own_columns = [
        {name: columns[f"{spec.alias}_{name}"] for name in task.column_types(spec)}
        for columns in (reference, candidate)
    ]
    measured, passed = task.compare_columns(own_columns[0], own_columns[1], sizes)
    return {**measured, "passed": bool(passed)}
