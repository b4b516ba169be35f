"""Values of extra columns stay unchanged, become JSON, or are null."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from cvbatch.errors import SourceError
from cvbatch.sources.extra_columns import cast_or_null, infer_json_type, json_values_to_column, rename_columns


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, 2], pa.int64()),
        ([1, 0.5], pa.float64()),
        ([True], pa.bool_()),
        ([True, 1], pa.string()),
        ([], pa.string()),
        ([None], pa.string()),
        ([[1], [2, 3]], pa.list_(pa.int64())),
        ([[], []], pa.list_(pa.string())),
        ([[1], ["a"]], pa.string()),
        ([{"a": 1}, {"a": None}], pa.struct([("a", pa.int64())])),
        ([{"a": 1}, {}], pa.string()),
        ([{}], pa.string()),
        ([[{"a": 1}], [{"b": 1}]], pa.string()),
        ([{"a": {"b": []}}], pa.struct([("a", pa.struct([("b", pa.list_(pa.string()))]))])),
    ],
)
def test_types(values: list[Any], kind: pa.DataType) -> None:
    assert infer_json_type(values) == kind
    assert json_values_to_column(values, kind).type == kind


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, 1.5, "1", 2**70, float("nan"), [1], 2.0], pa.int64(), [1, None, None, None, None, None, 2]),
        ([1, "x", True], pa.string(), ["1", "x", "true"]),
        ([{"a": 1}, "x"], pa.string(), ['{"a": 1}', "x"]),
        ([[1], 1, [1.5]], pa.list_(pa.int64()), [[1], None, None]),
        ([{"a": 1}, {"a": 1, "b": 2}, {}], pa.struct([("a", pa.int64())]), [{"a": 1}, None, None]),
    ],
)
def test_values_of_another_type(values: list[Any], kind: pa.DataType, expected: list[Any]) -> None:
    assert json_values_to_column(values, kind).to_pylist() == expected


def test_invalid_numbers() -> None:
    result = json_values_to_column([float("nan"), 1, "x"], pa.float64()).to_pylist()
    assert result[0] != result[0]
    assert result[1:] == [1.0, None]


def test_columns_of_tables() -> None:
    column = pa.chunked_array([[1, 2], [3]])
    assert cast_or_null(column, pa.float64()).to_pylist() == [1.0, 2.0, 3.0]
    assert cast_or_null(column, pa.list_(pa.int64())).to_pylist() == [None] * 3


@pytest.mark.parametrize(
    ("names", "rename", "expected"),
    [
        (["width"], {}, "'width' has a name that is reserved for cvbatch; rename it with source.rename: {width: my_"),
        (
            ["status", "_x"],
            {},
            "'status', '_x' have names that are reserved for cvbatch; .*: {status: my_status, _x: my_x}",
        ),
        (["a"], {"b": "c"}, "has no column 'b'; it has a"),
        (["a", "b"], {"b": "a"}, "source.rename gives two columns the name 'a'; choose another name"),
        (["Width"], {}, "'Width' has a name that is reserved for cvbatch; .* {Width: my_Width}"),
        (["ab", "AB"], {}, "'ab' and 'AB' differ only in case, which .*: {AB: my_AB}"),
        (["ab", "c"], {"c": "aB"}, "'ab' and 'aB' differ only in case, which .*: {c: my_aB}"),
        (["a", "a"], {}, "two columns are named 'a'; rename one of them in the file, or drop all"),
    ],
)
def test_refused_names(names: list[str], rename: dict[str, str], expected: str) -> None:
    with pytest.raises(SourceError, match=expected):
        rename_columns(pa.schema([(name, pa.string()) for name in names]), rename, "x.tar")


def test_an_existing_run_keeps_names_that_differ_only_in_case() -> None:
    schema = pa.schema([(name, pa.string()) for name in ("Width", "ab", "AB")])
    assert rename_columns(schema, {}, "x.csv", schema) == schema
