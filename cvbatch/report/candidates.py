"""Images that may be shown: the surest, the least sure, some by chance, some with rare labels, some that failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from cvbatch.report.label_values import Codes, LabelReader, LeadLabels, Numbers
from cvbatch.results.best_rows import BestRows, random_numbers
from cvbatch.schema import CONTENT_SHA256, ERROR_TYPE, ROW_ID

SURE: Final = "sure"
UNSURE: Final = "unsure"
RANDOM: Final = "random"
RARE: Final = "rare class"
FAILED: Final = "error"
KEPT_COLUMNS: Final = (ROW_ID, CONTENT_SHA256)
_SEED: Final = 0
_OF_ONE_LABEL: Final = 2
"""Images of one label, or of one error, that come before the next of all others."""


class RandomCandidates:
    """Keeps rows by chance.

    Args:
        limit: Most rows.
    """

    def __init__(self, limit: int) -> None:
        self._best = BestRows(limit)

    @property
    def columns(self) -> Sequence[str]:
        """As a `RowCollector`."""
        return KEPT_COLUMNS

    def add_rows(self, rows: pa.Table) -> None:
        """Take some rows."""
        self._best.add_rows(rows.select(KEPT_COLUMNS), random_numbers(rows[ROW_ID].to_numpy(), _SEED))

    def finish(self) -> pa.Table | None:
        """The rows, best first."""
        return self._best.finish()


class FailedCandidates:
    """Keeps rows of each error type by chance.

    Args:
        limit: Most rows.
    """

    def __init__(self, limit: int) -> None:
        self._best, self._codes = BestRows(limit, _OF_ONE_LABEL), dict[str, int]()

    @property
    def columns(self) -> Sequence[str]:
        """As a `RowCollector`."""
        return (*KEPT_COLUMNS, ERROR_TYPE)

    def add_rows(self, rows: pa.Table) -> None:
        """Take some rows."""
        codes = [self._codes.setdefault(name, len(self._codes)) for name in rows[ERROR_TYPE].to_pylist()]
        numbers = random_numbers(rows[ROW_ID].to_numpy(), _SEED)
        self._best.add_rows(rows.select(KEPT_COLUMNS), numbers, np.array(codes, np.int64))

    def finish(self) -> pa.Table | None:
        """The rows, best first."""
        return self._best.finish()


Ranking = Callable[[LeadLabels], Numbers]


def by_sureness(leads: LeadLabels) -> Numbers:
    """The surest first."""
    return leads.sureness


def by_doubt(leads: LeadLabels) -> Numbers:
    """The least sure first."""
    return leads.doubt


class LeadCandidates:
    """Keeps the best rows of each first label.

    Args:
        reader: Of a model with scores.
        limit: Most rows.
        ranking: Which are the best.
    """

    def __init__(self, reader: LabelReader, limit: int, ranking: Ranking) -> None:
        self._reader, self._ranking = reader, ranking
        self._best = BestRows(limit, _OF_ONE_LABEL)

    @property
    def columns(self) -> Sequence[str]:
        """As a `RowCollector`."""
        return (*KEPT_COLUMNS, *self._reader.lead_columns)

    def add_rows(self, rows: pa.Table) -> None:
        """Take some rows."""
        leads = self._reader.read_leads(rows)
        priorities = self._ranking(leads)
        usable = np.isfinite(priorities) & (leads.codes >= 0)
        if usable.any():
            kept = rows.select(KEPT_COLUMNS).filter(pa.array(usable))
            self._best.add_rows(kept, priorities[usable], leads.codes[usable])

    def finish(self) -> pa.Table | None:
        """The rows, best first."""
        return self._best.finish()


class LabelCandidates:
    """Keeps the best rows of some labels, wherever in an image they are.

    Args:
        reader: Of the model.
        labels: Codes of the labels.
        limit: Most rows.
    """

    def __init__(self, reader: LabelReader, labels: Sequence[int], limit: int) -> None:
        self._reader, self._best = reader, BestRows(limit, 1)
        self._is_wanted = np.zeros(len(reader.names), np.bool_)
        self._is_wanted[list(labels)] = True

    @property
    def columns(self) -> Sequence[str]:
        """As a `RowCollector`."""
        return (*KEPT_COLUMNS, *self._reader.columns)

    def add_rows(self, rows: pa.Table) -> None:
        """Take some rows."""
        values = self._reader.read(rows)
        wanted = np.flatnonzero(self._is_wanted[values.codes])
        if not len(wanted):
            return
        owners: Codes = values.owners[wanted]
        row_ids = rows[ROW_ID].to_numpy()[owners]
        priorities = random_numbers(row_ids, _SEED) if values.scores is None else values.scores[wanted]
        self._best.add_rows(rows.select(KEPT_COLUMNS).take(pa.array(owners)), priorities, values.codes[wanted])

    def finish(self) -> pa.Table | None:
        """The rows, best first; a row may come twice."""
        return self._best.finish()
