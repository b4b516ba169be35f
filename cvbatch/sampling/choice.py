"""What was chosen, as a table with a reason for each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from cvbatch.sampling.measures import LABEL_ID, NO_LABEL, SCORE
from cvbatch.sampling.pool import Pool, PoolRequest
from cvbatch.sampling.selection import Selection
from cvbatch.schema import IMAGE_URI, ROW_ID

LABEL: Final = "label"
REASON: Final = "reason"
COSINE: Final = "cosine"
"""Key of a chosen row: its highest cosine with an image that was chosen before, or is labelled already;
`NO_COSINE` if there is none."""
NEIGHBOUR: Final = "neighbour"
"""Key of a chosen row: the `row_id` of that image; None if there is none, or it is labelled already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleChoice:
    """The images to label next."""

    table: pa.Table
    """`row_id`, `image_uri`, `label` (the class that an image counts for, or null), `score` and `reason`: the best
    first."""
    by: str
    requested: int
    counts: Mapping[str, int]
    """Rows: `usable`, `error`, `removed`, `excluded`, `nothing_found` (no answer passed the filter), `candidates`."""
    notes: tuple[str, ...]
    """What a person should know about the choice, a sentence each."""

    def where(self) -> str:
        """The condition that holds for the chosen images alone: the `where` of `export_predictions` and of others."""
        return f"{ROW_ID} IN ({', '.join(map(str, self.table[ROW_ID].to_pylist())) or -1})"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "by": self.by,
            "requested": self.requested,
            "chosen": self.table.num_rows,
            "counts": dict(self.counts),
            "notes": list(self.notes),
            "images": self.table.to_pylist(),
        }


Explain: TypeAlias = Callable[[PoolRequest, Mapping[str, Any]], tuple[float | None, str]]
"""From the values of a chosen row, with `NEIGHBOUR` and `COSINE`, to its score and the reason to label it."""


def make_choice(
    by: str, requested: int, request: PoolRequest, pool: Pool, selection: Selection, explain: Explain
) -> SampleChoice:
    """Describe the chosen candidates.

    Args:
        by: Name of the strategy.
        requested: Number of images that were asked for.
        request: What was collected.
        pool: The candidates.
        selection: The chosen ones.
        explain: Gives score and reason of a row.
    """
    chosen = pool.candidates.take(pa.array(selection.indices, pa.int64()))
    plain = [field.name for field in chosen.schema if not pa.types.is_nested(field.type)]
    row_ids = pool.candidates[ROW_ID].to_numpy()
    answers = [
        explain(request, {**row, COSINE: cosine, NEIGHBOUR: int(row_ids[index]) if index >= 0 else None})
        for row, (cosine, index) in zip(chosen.select(plain).to_pylist(), selection.neighbours, strict=True)
    ]
    table = pa.table(
        {
            ROW_ID: chosen[ROW_ID],
            IMAGE_URI: chosen[IMAGE_URI],
            LABEL: pa.array([_label_of(request, label_id) for label_id in chosen[LABEL_ID].to_pylist()], pa.string()),
            SCORE: pa.array([score for score, _ in answers], pa.float64()),
            REASON: pa.array([reason for _, reason in answers], pa.string()),
        }
    )
    counts = {**pool.counts, "candidates": pool.candidates.num_rows}
    return SampleChoice(
        table=table, by=by, requested=requested, counts=counts, notes=_notes(requested, request, pool, selection)
    )


def _label_of(request: PoolRequest, label_id: int) -> str | None:
    return None if request.model is None or label_id == NO_LABEL else request.model.categories[label_id]


def _notes(requested: int, request: PoolRequest, pool: Pool, selection: Selection) -> tuple[str, ...]:
    notes = []
    if request.embedding is None:
        notes.append("the run has no embedding, so only files with equal content count as duplicates")
    missing = requested - len(selection.indices)
    if missing and pool.counts["usable"] > pool.candidates.num_rows:
        notes.append(f"{missing} images are missing: more candidates may have them (candidates= or --candidates)")
    elif missing:
        closed = np.count_nonzero(~selection.open) - len(selection.indices)
        notes.append(
            f"{missing} images are missing: of {pool.candidates.num_rows} candidates, {closed} are near duplicates of "
            "chosen or labelled ones, or over the budget of their class"
        )
    return tuple(notes)
