"""The images that may be chosen: one pass over the rows of a run, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.models.spec import ModelSpec
from cvbatch.results.best_rows import BestRows, random_numbers
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.results.where import Where
from cvbatch.sampling.measures import LABEL_ID, NO_LABEL, SCORE, ElementFilter, Measure
from cvbatch.schema import CONTENT_SHA256, IMAGE_URI, OK, ROW_ID, SOURCE_REMOVED, STATUS

Priority: TypeAlias = Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""From the scores of rows and random numbers in (0, 1) to the priority of each row to be a candidate."""
_KEPT_COLUMNS: Final = (ROW_ID, IMAGE_URI, CONTENT_SHA256)


def most_uncertain(scores: npt.NDArray[np.float64], numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Highest scores first."""
    return scores


def by_chance(scores: npt.NDArray[np.float64], numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each row with the same chance."""
    return numbers


def by_weighted_chance(scores: npt.NDArray[np.float64], numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each row with a chance in proportion to its score (Efraimidis and Spirakis 2006)."""
    priorities: npt.NDArray[np.float64] = np.log(numbers) / np.maximum(scores, 1e-12)
    return priorities


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRequest:
    """What to collect."""

    priority: Priority
    limit: int
    """Most candidates."""
    seed: int
    measure: Measure | None = None
    """How unsure the model is; without it, all scores are 0."""
    model: ModelSpec | None = None
    """The model that `measure` is about."""
    embedding: ModelSpec | None = None
    """The model whose vectors tell near duplicates."""
    elements: ElementFilter = field(default_factory=ElementFilter)
    class_share: int | None = None
    """Candidates of one class that come before the next of all others; None if classes have no budget."""
    excluded: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Rows that are labelled already."""
    where: Where = None


@dataclass(slots=True)
class Pool:
    """The candidates of a run, and what was left out."""

    candidates: pa.Table
    """`row_id`, `image_uri`, `content_sha256`, `score`, `label_id`, columns of the measure, and the columns of the
    model and the embedding that the strategies need; best first."""
    excluded: pa.Table
    """`content_sha256` and the embedding of rows that are labelled already."""
    counts: dict[str, int]
    """Rows: `usable`, `error`, `removed`, `excluded`, `nothing_found`."""


def collect_pool(opened: OpenedOutput, request: PoolRequest, *, needs_gradients: bool = False) -> Pool:
    """Read the rows of a run once and keep the candidates.

    Args:
        opened: The run.
        request: Which candidates.
        needs_gradients: Whether to keep what `Measure.weigh_classes` needs.
    """
    kept_columns = list(_KEPT_COLUMNS)
    if needs_gradients and request.measure is not None and request.model is not None:
        kept_columns += [f"{request.model.alias}_{name}" for name in request.measure.class_lists]
    if request.embedding is not None:
        kept_columns.append(f"{request.embedding.alias}_vector")
    collector = _PoolCollector(request, list(dict.fromkeys(kept_columns)))
    columns = [*kept_columns, *collector.measured_columns(), STATUS, SOURCE_REMOVED]
    for table in iter_rows(opened, RowSelection(columns=list(dict.fromkeys(columns)), where=request.where)):
        collector.add_rows(table)
    return collector.finish(opened.schema)


class _PoolCollector:
    def __init__(self, request: PoolRequest, kept_columns: list[str]) -> None:
        self._request, self._kept_columns = request, kept_columns
        self._best = BestRows(request.limit, request.class_share)
        self._excluded: list[pa.Table] = []
        self._counts = dict.fromkeys(("usable", "error", "removed", "excluded", "nothing_found"), 0)

    def measured_columns(self) -> list[str]:
        """Columns that the measure needs."""
        measure, model = self._request.measure, self._request.model
        if measure is None or model is None:
            return []
        return [*measure.other_columns, *(f"{model.alias}_{name}" for name in measure.list_names)]

    def add_rows(self, table: pa.Table) -> None:
        """Add rows as they were read."""
        table = self._drop_unusable(table)
        if not table.num_rows:
            return
        columns = self._measure(table)
        if self._has_filter():
            passing = columns[LABEL_ID] != NO_LABEL
            self._counts["nothing_found"] += int((~passing).sum())
            table = table.filter(pa.array(passing))
            columns = {name: values[passing] for name, values in columns.items()}
        self._counts["usable"] += table.num_rows
        numbers = random_numbers(table[ROW_ID].to_numpy(), self._request.seed)
        kept = table.select(self._kept_columns)
        for name, values in columns.items():
            kept = kept.append_column(name, pa.array(values))
        groups = columns[LABEL_ID] if self._request.class_share is not None else None
        self._best.add_rows(kept, self._request.priority(columns[SCORE], numbers), groups)

    def finish(self, schema: pa.Schema) -> Pool:
        """What was collected."""
        empty = pa.schema([schema.field(name) for name in self._kept_columns]).empty_table()
        candidates = self._best.finish()
        if candidates is None:
            candidates = empty.append_column(SCORE, pa.array([], pa.float64()))
            candidates = candidates.append_column(LABEL_ID, pa.array([], pa.int64()))
        return Pool(candidates, pa.concat_tables([empty, *self._excluded]), self._counts)

    def _drop_unusable(self, table: pa.Table) -> pa.Table:
        """Count and drop rows that cannot be chosen; keep the vectors of those that are labelled already."""
        is_error = pc.not_equal(table[STATUS], OK)
        is_removed = pc.and_not(table[SOURCE_REMOVED], is_error)
        self._counts["error"] += pc.sum(is_error).as_py() or 0
        self._counts["removed"] += pc.sum(is_removed).as_py() or 0
        table = table.filter(pc.invert(pc.or_(is_error, is_removed)))
        is_excluded = np.isin(table[ROW_ID].to_numpy(), self._request.excluded)
        if is_excluded.any():
            self._counts["excluded"] += int(is_excluded.sum())
            self._excluded.append(table.filter(pa.array(is_excluded)).select(self._kept_columns))
            table = table.filter(pa.array(~is_excluded))
        return table

    def _measure(self, table: pa.Table) -> dict[str, npt.NDArray[Any]]:
        measure, model = self._request.measure, self._request.model
        if measure is None or model is None:
            return {SCORE: np.zeros(table.num_rows), LABEL_ID: np.full(table.num_rows, NO_LABEL)}
        return measure.measure_rows(table, model, self._request.elements)

    def _has_filter(self) -> bool:
        return self._request.elements.label_ids is not None or bool(self._request.elements.min_score)
