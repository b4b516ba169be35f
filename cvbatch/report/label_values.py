"""The labels of a model in some rows, as arrays: one for each image, or one for each box or segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.models.spec import ModelSpec
from cvbatch.results.certainty import box_margins, class_margins
from cvbatch.sampling.list_values import flatten_list, list_matrix

Codes = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
_FORMS = (("label_ids", "scores"), ("label_id", "score"))
"""Short names of ids and scores: of lists, and of a value for each image."""
_TOP_SCORES = "top_scores"


@dataclass(frozen=True, slots=True)
class LabelValues:
    """Labels of some rows; arrays are (labels,)."""

    owners: Codes
    """The row of each."""
    codes: Codes
    """Index into the names of the reader."""
    scores: Numbers | None
    """None where the model gives none."""


@dataclass(frozen=True, slots=True)
class LeadLabels:
    """The first label of each row; arrays are (rows,)."""

    codes: Codes
    """-1 where an image has no label."""
    sureness: Numbers
    """Not a number without a score."""
    doubt: Numbers
    """From 0 (sure) to 1 (undecided); not a number without a score."""


class LabelReader:
    """Reads the labels of one model.

    Args:
        model: Has labels; ids with the same name count as one label.
    """

    def __init__(self, model: ModelSpec) -> None:
        self.model = model
        self._stored = {column.name.removeprefix(f"{model.alias}_") for column in model.column_fields()}
        self._ids, scores = next(form for form in _FORMS if form[0] in self._stored)
        self._scores = scores if scores in self._stored else None
        self.names = list(dict.fromkeys(name for name in model.categories if name is not None))
        """Name of each code."""

    @property
    def columns(self) -> list[str]:
        """Columns that `read` needs."""
        return [self._column(name) for name in (self._ids, self._scores) if name is not None]

    @property
    def lead_columns(self) -> list[str]:
        """Columns that `read_leads` needs."""
        return [*self.columns, *([self._column(_TOP_SCORES)] if _TOP_SCORES in self._stored else [])]

    @property
    def has_scores(self) -> bool:
        """Whether the model gives scores."""
        return self._scores is not None

    def read(self, rows: pa.Table) -> LabelValues:
        """All labels of some rows."""
        owners, ids = self._values(rows, self._ids)
        scores = None if self._scores is None else self._values(rows, self._scores)[1].astype(np.float64)
        return LabelValues(owners, self._code_of_id[ids], scores)

    def read_leads(self, rows: pa.Table) -> LeadLabels:
        """The first label of each row, which is the surest where there are scores."""
        values = self.read(rows)
        owners, first = np.unique(values.owners, return_index=True)
        codes = np.full(rows.num_rows, -1)
        codes[owners] = values.codes[first]
        sureness, doubt = (np.full(rows.num_rows, np.nan) for _ in range(2))
        if values.scores is not None:
            sureness[owners] = values.scores[first]
            doubt[owners] = box_margins(values.scores[first])
        if _TOP_SCORES in self._stored and len(owners) == rows.num_rows:
            doubt = 1 - class_margins(list_matrix(rows, self._column(_TOP_SCORES)))
        return LeadLabels(codes, sureness, doubt)

    @cached_property
    def _code_of_id(self) -> Codes:
        codes = {name: code for code, name in enumerate(self.names)}
        return np.array([-1 if name is None else codes[name] for name in self.model.categories], np.int64)

    def _column(self, name: str) -> str:
        return f"{self.model.alias}_{name}"

    def _values(self, rows: pa.Table, name: str) -> tuple[Codes, npt.NDArray[np.generic]]:
        column = rows[self._column(name)]
        if pa.types.is_list(column.type):
            owners, values = flatten_list(rows, self._column(name))
            return owners.astype(np.int64), values
        is_valid = pc.is_valid(column).to_numpy()
        return np.flatnonzero(is_valid), column.drop_null().to_numpy()


def label_readers(models: Sequence[ModelSpec]) -> list[LabelReader]:
    """A reader for each model that has labels."""
    columns = {model.alias: {column.name for column in model.column_fields()} for model in models}
    return [
        LabelReader(model)
        for model in models
        if any(f"{model.alias}_{ids}" in columns[model.alias] for ids, _ in _FORMS)
    ]
