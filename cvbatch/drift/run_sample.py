"""Some images of a run by chance, with all numbers that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.drift.signals import IMAGE_COLUMNS, Numbers, image_signals, signals_of_task
from cvbatch.models.spec import ModelSpec
from cvbatch.results.best_rows import BestRows, random_numbers
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.results.where import Where
from cvbatch.schema import IMAGE_URI, OK, ROW_ID, SOURCE_REMOVED, STATUS

_LABEL: Final = "label of "
_VECTOR: Final = "_vector"
_NUMBER: Final = "number "


@dataclass(slots=True)
class RunSample:
    """Images of a run; all parts are aligned."""

    row_ids: npt.NDArray[np.int64]
    uris: pa.Array
    values: dict[str, Numbers] = field(default_factory=dict)
    """Numbers by signal; not a number where it is not known."""
    labels: dict[str, pa.Array] = field(default_factory=dict)
    """One label for each image by model; null if the model names none."""
    vectors: dict[str, npt.NDArray[np.floating[Any]]] = field(default_factory=dict)
    """(rows, dimension) by model."""
    groups: pa.Array | None = None
    """The folder, or the value of the column by which images are grouped."""
    counts: dict[str, int] = field(default_factory=dict)
    """Rows of the run: `usable`, `error`, `removed`."""

    def __len__(self) -> int:
        return len(self.row_ids)


def read_run_sample(
    opened: OpenedOutput,
    models: Sequence[ModelSpec],
    *,
    limit: int,
    seed: int,
    where: Where = None,
    group_by: str | None = None,
) -> RunSample:
    """Read images of a run in one pass, in memory for `limit` of them.

    Args:
        opened: The run.
        models: The models whose answers are compared.
        limit: Most images; they are taken by chance.
        seed: Of this chance.
        where: Only images for which this holds.
        group_by: Column to keep as `groups`; `image_uri` stands for the folder.
    """
    best, counts = BestRows(limit), dict.fromkeys(("usable", "error", "removed"), 0)
    for table in iter_rows(opened, RowSelection(columns=_columns(models, group_by), where=where)):
        is_ok = pc.equal(table[STATUS], OK)
        is_usable = pc.and_not(is_ok, table[SOURCE_REMOVED])
        usable = table.filter(is_usable)
        counts["usable"] += usable.num_rows
        counts["error"] += table.num_rows - (pc.sum(is_ok).as_py() or 0)
        counts["removed"] += (pc.sum(is_ok).as_py() or 0) - usable.num_rows
        if usable.num_rows:
            numbers = random_numbers(usable[ROW_ID].to_numpy(), seed)
            best.add_rows(_measure_rows(usable, models, group_by), numbers)
    table = best.finish()
    if table is None:
        return RunSample(np.empty(0, np.int64), pa.array([], pa.string()), counts=counts)
    return _unpack(table, models, group_by, counts)


def _columns(models: Sequence[ModelSpec], group_by: str | None) -> list[str]:
    columns = [ROW_ID, IMAGE_URI, STATUS, SOURCE_REMOVED, *IMAGE_COLUMNS]
    for model in models:
        signals = signals_of_task(model.task)
        columns += [f"{model.alias}_{name}" for name in (signals.columns if signals else (_VECTOR[1:],))]
    return list(dict.fromkeys(columns if group_by is None else [*columns, group_by]))


def _measure_rows(rows: pa.Table, models: Sequence[ModelSpec], group_by: str | None) -> pa.Table:
    """The rows with what is compared only; numbers get the name of their signal."""
    kept = [ROW_ID, IMAGE_URI, *([] if group_by is None else [group_by])]
    table = rows.select(list(dict.fromkeys(kept)))
    values = image_signals(rows)
    for model in models:
        signals = signals_of_task(model.task)
        if signals is None:
            table = table.append_column(f"{model.alias}{_VECTOR}", rows[f"{model.alias}{_VECTOR}"])
            continue
        values |= {f"{model.alias}: {name}": part for name, part in signals.measure(rows, model).items()}
        table = table.append_column(f"{_LABEL}{model.alias}", signals.lead_labels(rows, model))
    for name, numbers in values.items():
        table = table.append_column(_NUMBER + name, pa.array(numbers))
    return table


def _unpack(table: pa.Table, models: Sequence[ModelSpec], group_by: str | None, counts: dict[str, int]) -> RunSample:
    table = table.combine_chunks()
    sample = RunSample(table[ROW_ID].to_numpy(), table[IMAGE_URI], counts=counts)
    sample.values = {
        name.removeprefix(_NUMBER): table[name].to_numpy() for name in table.column_names if name.startswith(_NUMBER)
    }
    for model in models:
        if f"{_LABEL}{model.alias}" in table.column_names:
            sample.labels[model.alias] = table[f"{_LABEL}{model.alias}"]
        else:
            lists = table[f"{model.alias}{_VECTOR}"].combine_chunks()
            sample.vectors[model.alias] = pc.list_flatten(lists).to_numpy().reshape(table.num_rows, -1)
    if group_by is not None:
        column = table[group_by]
        is_folder = group_by == IMAGE_URI
        sample.groups = (
            pc.replace_substring_regex(column, "[/#][^/#]*$", "") if is_folder else pc.cast(column, pa.string())
        )
    return sample
