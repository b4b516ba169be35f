"""Extra columns of every Arrow type get a portable type and keep their values, or are refused."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

from cvbatch.config.job import SourceConfig
from cvbatch.errors import SourceError
from cvbatch.sources import open_source
from cvbatch.sources.column_types import UnportableError, portable_type, to_portable_array
from cvbatch.sources.entries import ENTRY_FIELDS, ImageSource
from cvbatch.sources.tables.image_types import image_values

TEXT = pa.string()
INTERVAL = pa.struct([("months", pa.int32()), ("days", pa.int32()), ("nanoseconds", pa.int64())])
INTERVAL_VALUE = {"months": 1, "days": 2, "nanoseconds": 3}


def extension(kind: Any, storage: pa.Array) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, storage)


UNION = pa.UnionArray.from_dense(
    pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([7, None]), pa.array(["é"])]
)
SPARSE = pa.UnionArray.from_sparse(pa.array([1, 0, 0], pa.int8()), [pa.array([1, 2, None]), pa.array([b"x", b"", b""])])
DAY = datetime.date(2020, 1, 2)
TIMES = [datetime.time(1, 2, 3), None, datetime.time(0)]
CASES: list[tuple[pa.Array, pa.DataType, list[Any]]] = [
    (pa.array(["a", None, ""], pa.string_view()), TEXT, ["a", None, ""]),
    (pa.array([b"a", None, b"\xff" * 20], pa.binary_view()), pa.binary(), [b"a", None, b"\xff" * 20]),
    (pa.array([b"ab", None, b"cd"], pa.binary(2)), pa.binary(), [b"ab", None, b"cd"]),
    (pa.array([[1], None, [2, None]], pa.list_view(pa.int8())), pa.list_(pa.int8()), [[1], None, [2, None]]),
    (pa.array([["a"], None, []], pa.large_list_view(pa.string_view())), pa.large_list(TEXT), [["a"], None, []]),
    (pa.array([[1, 2], None, [3, None]], pa.list_(pa.int32(), 2)), pa.list_(pa.int32()), [[1, 2], None, [3, None]]),
    (pc.run_end_encode(pa.array(["a", "a", None])), TEXT, ["a", "a", None]),
    (pc.run_end_encode(pa.array([1.5, None, None], pa.float16())), pa.float32(), [1.5, None, None]),
    (UNION, TEXT, ["7", '"é"', None]),
    (SPARSE, TEXT, ['"x"', "2", None]),
    (pa.array([pa.MonthDayNano([1, 2, 3]), None, None]), INTERVAL, [INTERVAL_VALUE, None, None]),
    (pa.array(TIMES, pa.time32("ms")), TEXT, ["01:02:03.000", None, "00:00:00.000"]),
    (pa.array(TIMES, pa.time64("us")), TEXT, ["01:02:03.000000", None, "00:00:00.000000"]),
    (pa.array([{}, None, {}], pa.struct([])), TEXT, ["{}", None, "{}"]),
    (pa.array([Decimal("1.2"), None, None], pa.decimal32(5, 2)), pa.decimal128(5, 2), [Decimal("1.20"), None, None]),
    (pa.array([Decimal("1.2"), None, None], pa.decimal64(12, 1)), pa.decimal128(12, 1), [Decimal("1.2"), None, None]),
    (pa.array([Decimal("1.2"), None, None], pa.decimal256(38, 1)), pa.decimal128(38, 1), [Decimal("1.2"), None, None]),
    (pa.array([Decimal(10**50), None, None], pa.decimal256(60, 2)), TEXT, ["1" + "0" * 50 + ".00", None, None]),
    (pa.array([Decimal(1200), None, None], pa.decimal128(5, -2)), pa.decimal128(7, 0), [Decimal(1200), None, None]),
    (pa.nulls(3), TEXT, [None] * 3),
    (pa.array([1.5, None, 2], pa.float16()), pa.float32(), [1.5, None, 2]),
    (pa.array([1, None, 2]).dictionary_encode(), pa.int64(), [1, None, 2]),
    (
        pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.uint64()), pa.array(["a", "b"], pa.string_view())),
        TEXT,
        ["b", None, "a"],
    ),
    (
        pa.DictionaryArray.from_arrays(pa.array([0, None, 0], pa.int8()), pa.array([{"a": 1}])),
        pa.struct([("a", pa.int64())]),
        [{"a": 1}, None, {"a": 1}],
    ),
    (
        extension(pa.uuid(), pa.array([b"0" * 16, None, None], pa.binary(16))),
        TEXT,
        ["30303030-3030-3030-3030-303030303030", None, None],
    ),
    (extension(pa.json_(TEXT), pa.array(["{}", None, "1"])), TEXT, ["{}", None, "1"]),
    (extension(pa.bool8(), pa.array([1, None, 0], pa.int8())), pa.bool_(), [True, None, False]),
    (extension(pa.opaque(pa.binary(), "x", "y"), pa.array([b"1", None, b""])), pa.binary(), [b"1", None, b""]),
    (
        extension(pa.fixed_shape_tensor(pa.float16(), [2]), pa.array([[1, 2]] * 3, pa.list_(pa.float16(), 2))),
        pa.list_(pa.float32()),
        [[1, 2]] * 3,
    ),
    (pa.array([1, None, 2], pa.timestamp("s", "UTC")).cast(pa.timestamp("s")), pa.timestamp("ms"), []),
    (pa.array([1_234_567, None, -1], pa.timestamp("ns")), pa.timestamp("us"), []),
    (pa.array([DAY, None, None], pa.date64()), pa.date32(), [DAY, None, None]),
    (
        pa.array([[("a", "x")], None, []], pa.map_(pa.string_view(), pa.string_view())),
        pa.map_(TEXT, TEXT),
        [[("a", "x")], None, []],
    ),
    (
        pa.array(
            [{"a": [{"b": "x"}, None], "e": {}}, None, {"a": None, "e": None}],
            pa.struct([("a", pa.list_(pa.struct([("b", pa.string_view())]))), ("e", pa.struct([]))]),
        ),
        pa.struct([("a", pa.list_(pa.struct([("b", TEXT)]))), ("e", TEXT)]),
        [{"a": [{"b": "x"}, None], "e": "{}"}, None, {"a": None, "e": None}],
    ),
    (
        pa.ListArray.from_arrays([0, 1, 1, 3], UNION, mask=pa.array([False, True, False])),
        pa.list_(TEXT),
        [["7"], None, ['"é"', None]],
    ),
    (pa.array([[None], None, []], pa.list_(pa.null())), pa.list_(TEXT), [[None], None, []]),
]  # fmt: skip
SAME = [
    *(pa.bool_(), pa.int8(), pa.uint64(), pa.float64(), pa.large_string(), pa.large_binary(), pa.date32()),
    *(pa.timestamp("ms"), pa.timestamp("us", "Asia/Tokyo"), pa.duration("ns"), pa.decimal128(38, 10)),
    *(pa.list_(pa.list_(pa.int64())), pa.large_list(TEXT), pa.map_(TEXT, pa.int64()), pa.struct([("a", TEXT)])),
]


def name(case: Any) -> str | None:
    return str(case.type) if isinstance(case, pa.Array) else ""


@pytest.mark.parametrize(("array", "kind", "expected"), CASES, ids=name)
def test_values_do_not_change(array: pa.Array, kind: pa.DataType, expected: list[Any]) -> None:
    if not expected:
        expected = pc.cast(array, kind, safe=False).to_pylist()
    assert portable_type(array.type) == kind
    for low in range(3):
        result = to_portable_array(array.slice(low))
        result.validate(full=True)
        assert result.type == kind
        assert result.to_pylist() == expected[low:]


@pytest.mark.parametrize("kind", SAME, ids=str)
def test_portable_types_are_unchanged(kind: pa.DataType) -> None:
    array = pa.nulls(2, kind)
    assert to_portable_array(array) is array


@pytest.mark.parametrize(
    "kind", [pa.struct([("a", pa.int8()), ("a", pa.int8())]), pa.list_(pa.struct([("a", TEXT)] * 2))]
)
def test_types_without_a_portable_form(kind: pa.DataType) -> None:
    with pytest.raises(UnportableError):
        portable_type(kind)


def test_nanoseconds_are_truncated_to_microseconds() -> None:
    assert to_portable_array(pa.array([1_999], pa.timestamp("ns"))).cast(pa.int64()).to_pylist() == [1]


def write(path: Path, table: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        new = ipc.new_file if path.suffix == ".feather" else ipc.new_stream
        with new(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)


def rows(opened: ImageSource) -> pa.Table:
    table = pa.concat_tables(opened.iter_chunks())
    assert table.schema.equals(pa.schema([*ENTRY_FIELDS, *opened.extra_columns]))
    return table


@pytest.mark.parametrize("suffix", [".arrow", ".feather", ".parquet"])
@pytest.mark.parametrize("images", [False, True], ids=["manifest", "table"])
def test_every_reader_reads_all_extra_columns(tmp_path: Path, suffix: str, images: bool) -> None:
    arrays = {}
    for number, (array, _, _) in enumerate(CASES):
        if suffix == ".parquet":
            try:
                pq.write_table(pa.table({"x": array}), tmp_path / "try.parquet")
            except (pa.ArrowException, OSError):  # types that Parquet cannot store are only tested in Arrow
                continue
        arrays[f"c{number}"] = array
    key = {"image": [b"a", b"b", b"c"]} if images else {"uri": pa.array(["a", "b", "c"], pa.string_view())}
    write(tmp_path / f"m{suffix}", pa.table({**key, **arrays}))
    options = {"image_column": "image"} if images else {}
    table = rows(open_source(SourceConfig(uri=str(tmp_path / f"m{suffix}"), **options)))
    for number, (array, kind, expected) in enumerate(CASES):
        if f"c{number}" in arrays:
            column = table[f"c{number}"]
            text = not images and pa.types.is_dictionary(column.type)
            assert text or column.type == kind, array.type
            assert column.to_pylist() == (expected or pc.cast(array, kind, safe=False).to_pylist()), array.type
    there = table.select(list(arrays))
    pq.write_table(there, tmp_path / "back.parquet")
    assert pq.read_schema(tmp_path / "back.parquet").equals(there.schema)
    assert len(pd.read_parquet(tmp_path / "back.parquet")) == 3
    assert pl.read_parquet(tmp_path / "back.parquet").height == 3


def test_an_unportable_type_is_refused_at_once(tmp_path: Path) -> None:
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    for key in ({"uri": ["a"]}, {"image": [b"a"]}):
        write(tmp_path / "m.arrow", pa.table({**key, "x": twice}))
        with pytest.raises(SourceError, match=r"m\.arrow: the column 'x' is struct<a: int64, a: int64>, which cannot"):
            open_source(SourceConfig(uri=str(tmp_path / "m.arrow")))
        assert rows(open_source(SourceConfig(uri=str(tmp_path / "m.arrow"), metadata="off"))).num_rows == 1


def test_what_pandas_writes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"uri": ["a"], "p": pd.PeriodIndex(["2020-01"], freq="M"), "i": pd.interval_range(0, 1)})
    frame.to_parquet(tmp_path / "m.parquet")
    result = rows(open_source(SourceConfig(uri=str(tmp_path / "m.parquet"))))
    assert result.select(["p", "i"]).to_pylist() == [{"p": 600, "i": {"left": 0, "right": 1}}]


BROKEN = pa.array([b"a", b"\xff\xc3", None]).view(TEXT)
LISTS = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), BROKEN)
TEXTS = [
    (BROKEN, ["a", "\\xff\\xc3", None]),
    (pa.array([b"a", b"\xff\xc3", None], pa.large_binary()).view(pa.large_string()), ["a", "\\xff\\xc3", None]),
    (LISTS, [["a"], ["\\xff\\xc3"], [None]]),
    (LISTS.slice(1), [["\\xff\\xc3"], [None]]),
    (pa.StructArray.from_arrays([BROKEN], ["s"]), [{"s": "a"}, {"s": "\\xff\\xc3"}, {"s": None}]),
    (
        pa.MapArray.from_arrays(pa.array([0, 1, 2, 2], pa.int32()), BROKEN.slice(0, 2), BROKEN.slice(0, 2)),
        [[("a", "a")], [("\\xff\\xc3", "\\xff\\xc3")], []],
    ),
]


@pytest.mark.parametrize(("array", "expected"), TEXTS, ids=name)
@pytest.mark.parametrize("images", [False, True], ids=["manifest", "table"])
def test_text_that_is_not_utf_8(tmp_path: Path, array: pa.Array, expected: list[Any], images: bool) -> None:
    """Writers do not check the text in Parquet files; Polars refuses the whole file."""
    key = "image" if images else "uri"
    pq.write_table(pa.table({key: [b"a" if images else "a"] * len(array), "x": array}), tmp_path / "m.parquet")
    result = rows(open_source(SourceConfig(uri=str(tmp_path / "m.parquet"))))
    assert result["x"].type == array.type
    assert result["x"].to_pylist() == expected
    pq.write_table(result.select(["x"]), tmp_path / "back.parquet")
    assert pl.read_parquet(tmp_path / "back.parquet").height == len(expected)


@pytest.mark.parametrize("zone", ["+05:30", "-00:30", "Z", "utc", "Mars/Phobos", "pytz.FixedOffset(330)"])
def test_unknown_time_zones_become_utc(tmp_path: Path, zone: str) -> None:
    """Polars panics on a fixed offset."""
    moments = pa.array([0, 3_600_000_000]).view(pa.timestamp("us", zone))
    pq.write_table(pa.table({"uri": ["a", "b"], "x": moments}), tmp_path / "m.parquet")
    result = rows(open_source(SourceConfig(uri=str(tmp_path / "m.parquet"))))
    assert result["x"].type == pa.timestamp("us", "UTC")
    assert result["x"].cast(pa.int64()).to_pylist() == [0, 3_600_000_000]
    pq.write_table(result.select(["x"]), tmp_path / "back.parquet")
    assert pl.read_parquet(tmp_path / "back.parquet").height == len(pd.read_parquet(tmp_path / "back.parquet")) == 2


@pytest.mark.parametrize("levels", [40, 50])
def test_types_nested_too_deeply_for_parquet_are_refused_at_once(tmp_path: Path, levels: int) -> None:
    array = pa.array([1])
    for _ in range(levels):
        array = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), array)
    if levels == 40:
        assert portable_type(array.type) == array.type
        return
    write(tmp_path / "m.arrow", pa.table({"uri": ["a"], "x": array}))
    with pytest.raises(SourceError, match=r"the column 'x' is list<item.{100,120}…, which cannot be kept"):
        open_source(SourceConfig(uri=str(tmp_path / "m.arrow")))


class Acting(pa.ExtensionType):
    """An extension type whose values have side effects as Python objects, such as unpickling."""

    def __init__(self) -> None:
        super().__init__(pa.binary(), "cvbatch.test.acting")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Acting:
        return cls()

    def __arrow_ext_scalar_class__(self) -> type:
        return ActingScalar


class ActingScalar(pa.ExtensionScalar):  # type: ignore[misc]  # pyarrow has no types
    def as_py(self, **_: Any) -> Any:
        raise AssertionError("a value of a file was acted upon")


def test_values_of_registered_types_are_never_interpreted(tmp_path: Path) -> None:
    acting = pa.ExtensionArray.from_storage(Acting(), pa.array([b"x", None]))
    pa.register_extension_type(Acting())
    try:
        write(tmp_path / "m.arrow", pa.table({"uri": ["a", "b"], "x": acting}))
        assert rows(open_source(SourceConfig(uri=str(tmp_path / "m.arrow"))))["x"].to_pylist() == [b"x", None]
        with pytest.raises(UnportableError):
            portable_type(pa.sparse_union([pa.field("a", Acting())]))
        assert image_values(acting, [0, 1]) == [(b"x", None), (None, None)]
    finally:
        pa.unregister_extension_type("cvbatch.test.acting")
