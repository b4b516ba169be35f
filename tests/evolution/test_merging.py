"""Rows of a run and computed rows become rows with both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cvbatch.errors import CorruptionError
from cvbatch.evolution.merging import ComputedRows, Merge
from cvbatch.models.spec import rows_schema
from cvbatch.output.data_files import WriteContext
from cvbatch.output.row_ranges import RowRanges
from cvbatch.storage.location import Location
from tests.samples import block, committed_run, spec

LABELS = spec("labels")
VECTORS = spec("vectors", "embedding", dimension=3, dtype="float16")
BOXES = spec("boxes", "detection", masks=True)
ROWS = 6


def computed_rows(tmp_path: Path, *, failed: Any = (), **columns: Any) -> ComputedRows:
    values = {
        "vectors_vector": [None if row in failed else [float(row), 0.5, 1.0] for row in range(ROWS)],
        "content_sha256": [f"{row}" for row in range(ROWS)],
    }
    _, log = committed_run(tmp_path, ROWS, VECTORS, failed=failed, **{**values, **columns})
    return ComputedRows(log.store, list(log.state.files.values()))


def merged(computed: ComputedRows | None, *, removed: Any = (), failed: Any = ()) -> pa.Table:
    old = block(
        0,
        ROWS,
        LABELS,
        BOXES,
        failed=failed,
        labels_label=[None if row in failed else f"label {row}" for row in range(ROWS)],
        boxes_boxes=[None if row in failed else [[0.0, 0.0, row, 1.0]] for row in range(ROWS)],
        boxes_masks=[None if row in failed else [b"\1\2"] for row in range(ROWS)],
        content_sha256=[None if row in failed else f"{row}" for row in range(ROWS)],
    )
    models = [spec("animals"), BOXES, *([VECTORS] if computed else [])]
    schema = rows_schema(models)
    new_names = {column.name for model in models for column in model.column_fields()}
    copied = {name: name.replace("animals", "labels") for name in new_names if not name.startswith("vectors")}
    context = WriteContext(Location("unused"), 1, schema)
    table = Merge(context, copied, frozenset(new_names - copied.keys()), computed, RowRanges(removed)).merge_rows(old)
    assert table.schema == schema
    return table


def test_columns_of_both_are_side_by_side(tmp_path: Path) -> None:
    rows = merged(computed_rows(tmp_path)).to_pylist()
    for index, row in enumerate(rows):
        assert row["animals_label"] == f"label {index}"
        assert row["boxes_boxes"] == [[0.0, 0.0, index, 1.0]]
        assert row["boxes_masks"] == [b"\1\2"]
        assert list(row["vectors_vector"]) == [index, 0.5, 1.0]
        assert row["status"] == "ok"


def test_nothing_is_computed_where_columns_only_go(tmp_path: Path) -> None:
    table = merged(None, failed={2})
    assert table["status"].to_pylist().count("error") == 1
    assert table["animals_label"].null_count == 1


def test_an_error_of_either_side_is_an_error_row(tmp_path: Path) -> None:
    table = merged(computed_rows(tmp_path, failed={1, 2}), failed={2, 4})
    assert [status == "error" for status in table["status"].to_pylist()] == [False, True, True, False, True, False]
    for name in ("animals_label", "boxes_boxes", "boxes_masks", "vectors_vector"):
        assert [value is None for value in table[name].to_pylist()] == [False, True, True, False, True, False], name
    assert table["error_type"].to_pylist()[1] == "TruncatedImage"


def test_a_file_that_was_replaced_between_is_an_error_that_can_be_retried(tmp_path: Path) -> None:
    table = merged(computed_rows(tmp_path, content_sha256=["0", "1", "other", "3", "4", "5"]))
    row = table.to_pylist()[2]
    assert (row["status"], row["error_type"], row["error_transient"]) == ("error", "ChangedSinceRun", True)
    assert (row["animals_label"], row["vectors_vector"]) == (None, None)
    assert table["status"].to_pylist().count("error") == 1


def test_what_is_known_of_removed_images_stays(tmp_path: Path) -> None:
    row = merged(computed_rows(tmp_path, failed={3}), removed=[(3, 4)]).to_pylist()[3]
    assert (row["status"], row["animals_label"], row["vectors_vector"]) == ("ok", "label 3", None)


def test_a_missing_row_is_corruption(tmp_path: Path) -> None:
    computed = computed_rows(tmp_path)
    with pytest.raises(CorruptionError, match="rows are missing"):
        ComputedRows(computed.store, []).read_rows(pa.array([0]).to_numpy())
