"""Rows of several passes become rows with the columns of all models."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from cvbatch.errors import CorruptionError, RowError
from cvbatch.schema import WORKER
from cvbatch.stages.joining import join_answers, join_passes
from tests.samples import FAILED, block, spec

ROWS = 5
LABELS, BOXES = spec("labels"), spec("boxes", "detection", masks=True)
OTHER = RowError("predict", "InvalidOutput", "not a number")


def predicted(model: Any, *, failed: Any = (), error: RowError = FAILED, low: int = 0, **columns: Any) -> pa.Table:
    defaults = {
        "labels_label": [None if row in failed else f"label {row}" for row in range(ROWS)],
        "boxes_boxes": [None if row in failed else [[0.0, 0.0, row, 1.0]] for row in range(ROWS)],
        "content_sha256": [f"{row}" for row in range(ROWS)],
    }
    names = {column.name for column in model.column_fields()} | {"content_sha256"}
    columns = {**{name: values for name, values in defaults.items() if name in names}, **columns}
    return block(low, low + ROWS, model, failed=failed, error=error, **columns)


def errors_of(table: pa.Table) -> dict[int, str]:
    return {row["row_id"]: row["error_type"] for row in table.to_pylist() if row["status"] == "error"}


def test_rows_have_the_columns_of_all_passes() -> None:
    boxes = predicted(BOXES).take([4, 2, 0, 1, 3])
    table = join_passes([predicted(LABELS), boxes])
    assert table["row_id"].to_pylist() == list(range(ROWS))
    for row in table.to_pylist():
        assert row["labels_label"] == f"label {row['row_id']}"
        assert row["boxes_boxes"] == [[0.0, 0.0, row["row_id"], 1.0]]
    assert errors_of(table) == {}


def test_an_error_of_any_pass_is_an_error_of_the_row() -> None:
    table = join_passes([predicted(LABELS, failed={0, 1}), predicted(BOXES, failed={1, 3}, error=OTHER)])
    assert errors_of(table) == {0: FAILED.type, 1: FAILED.type, 3: OTHER.type}
    for name in ("labels_label", "boxes_boxes"):
        assert [value is None for value in table[name].to_pylist()] == [True, True, False, True, False], name


def test_a_file_that_was_replaced_between_two_passes_is_an_error() -> None:
    other = predicted(BOXES, content_sha256=["0", "1", "other", "3", "4"])
    assert errors_of(join_passes([predicted(LABELS), other])) == {2: "ChangedSinceRun"}


def test_the_time_of_all_passes_counts() -> None:
    first, second = (
        table.append_column("_measures_predict", pa.array([1.0] * ROWS)).append_column(WORKER, pa.array([name] * ROWS))
        for name, table in (("a", predicted(LABELS)), ("b", predicted(BOXES)))
    )
    table = join_passes([first, second])
    assert table["_measures_predict"].to_pylist() == [2.0] * ROWS
    assert set(table[WORKER].to_pylist()) == {"b"}


def test_three_passes() -> None:
    more = spec("more")
    table = join_passes([predicted(LABELS), predicted(BOXES, failed={4}), predicted(more, failed={0})])
    assert {"labels_label", "boxes_boxes", "more_label"} <= set(table.column_names)
    assert errors_of(table).keys() == {0, 4}


def test_other_rows_are_refused() -> None:
    with pytest.raises(CorruptionError, match="different rows"):
        join_passes([predicted(LABELS), predicted(BOXES, low=1)])


def test_the_first_error_of_an_image_that_was_tried_alone_counts() -> None:
    assert join_answers([predicted(LABELS), OTHER, FAILED]) is OTHER
    joined = join_answers([predicted(LABELS), predicted(BOXES)])
    assert isinstance(joined, pa.Table)
