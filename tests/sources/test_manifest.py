"""One row per line of a manifest; its other columns are extra columns."""

from __future__ import annotations

import datetime
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvbatch.config.job import SourceConfig
from cvbatch.errors import SourceError
from cvbatch.sources import open_source
from cvbatch.sources.entries import ENTRY_FIELDS
from cvbatch.sources.manifest import ManifestSource

NOON = datetime.datetime(2020, 1, 2, 12, 0, 1)


def source(path: Path, content: bytes | str | list[Any] | pa.Table, **options: Any) -> ManifestSource:
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    elif isinstance(content, list):
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    opened = open_source(SourceConfig(uri=str(path), **options))
    assert isinstance(opened, ManifestSource)
    return opened


def rows(opened: ManifestSource) -> pa.Table:
    """All chunks, checked against the schema of the source."""
    schema = pa.schema([*ENTRY_FIELDS, *opened.extra_columns])
    chunks = list(opened.iter_chunks())
    assert all(chunk.schema.equals(schema) for chunk in chunks)
    return pa.concat_tables([schema.empty_table(), *chunks])


def carried(opened: ManifestSource) -> dict[str, list[Any]]:
    result: dict[str, list[Any]] = rows(opened).select(opened.extra_columns.names).to_pydict()
    return result


def names(opened: ManifestSource) -> list[str]:
    return [
        os.path.relpath(uri, os.path.dirname(opened.path)) if uri else ""
        for uri in rows(opened)["image_uri"].to_pylist()
    ]


@pytest.mark.parametrize(
    ("content", "uris", "columns"),
    [
        ("uri,n\na.jpg,007\n", ["a.jpg"], {"n": ["007"]}),
        ("\ufeffuri,n\na.jpg,1\n", ["a.jpg"], {"n": ["1"]}),
        ("n,uri\r\n1,a.jpg\r\n2,a.jpg\r\n", ["a.jpg", "a.jpg"], {"n": ["1", "2"]}),
        ('uri,n\n"a,b.jpg","say ""x"""\n"two\nlines.jpg",\n', ["a,b.jpg", "two\nlines.jpg"], {"n": ['say "x"', ""]}),
        ("uri\na.jpg\n\n\nb.jpg", ["a.jpg", "b.jpg"], {}),
        ("uri,n\n,NA\nb.jpg,null\n", ["", "b.jpg"], {"n": ["NA", "null"]}),
        ("uri,day,flag\na.jpg,2020-01-01,true\n", ["a.jpg"], {"day": ["2020-01-01"], "flag": ["true"]}),
        (",uri\n0,a.jpg\n", ["a.jpg"], {"": ["0"]}),
        ("uri,n\n", [], {"n": []}),
    ],
)
def test_csv_stays_text(tmp_path: Path, content: str, uris: list[str], columns: dict[str, list[str]]) -> None:
    opened = source(tmp_path / "m.csv", content)
    assert names(opened) == uris
    assert carried(opened) == columns
    assert set(opened.extra_columns.types) <= {pa.string()}


def test_csv_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", "7")
    lines = [f'{index:04d}.jpg,"x\n{index}"' for index in range(100)]
    opened = source(tmp_path / "m.csv", "uri,n\n" + "\n".join(lines))
    assert names(opened) == [f"{index:04d}.jpg" for index in range(100)]
    assert carried(opened)["n"] == [f"x\n{index}" for index in range(100)]


@pytest.mark.parametrize(
    ("lines", "column", "kind"),
    [
        ([{"x": 1}, {"x": 2.5}], [1.0, 2.5], pa.float64()),
        ([{"x": 1}, {}, {"x": None}], [1, None, None], pa.int64()),
        ([{"x": None}, {}], [None, None], pa.string()),
        ([{"x": "2020-01-01"}, {"x": "2020-01-01T00:00:00Z"}], ["2020-01-01", "2020-01-01T00:00:00Z"], pa.string()),
        ([{"x": "007"}], ["007"], pa.string()),
        ([{"x": True}, {"x": None}], [True, None], pa.bool_()),
        ([{"x": []}, {"x": [1]}], [[], [1]], pa.list_(pa.int64())),
        ([{"x": []}], [[]], pa.list_(pa.string())),
        (
            [{"x": {"a": 1}}, {"x": {"b": ["y"]}}],
            [{"a": 1, "b": None}, {"a": None, "b": ["y"]}],
            pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
        ),
        ([{"x": {"a": None}}], [{"a": None}], pa.struct([("a", pa.string())])),
    ],
)
@pytest.mark.parametrize("chunk_rows", [1, 100])
def test_types_of_jsonl(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[Any],
    column: list[Any],
    kind: pa.DataType,
    chunk_rows: int,
) -> None:
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", str(chunk_rows))
    opened = source(tmp_path / "m.jsonl", [{"uri": "a.jpg", **line} for line in lines])
    assert opened.extra_columns == pa.schema([("x", kind)])
    assert carried(opened) == {"x": column}


def test_lines_of_jsonl(tmp_path: Path) -> None:
    content = '\ufeff{"uri": "a.jpg"}\n\n{"y": 1}\r\n{"uri": null}\n{"uri": "b\\nc.jpg", "y": 2}'
    opened = source(tmp_path / "m.jsonl", content)
    assert names(opened) == ["a.jpg", "", "", "b\nc.jpg"]
    assert carried(opened) == {"y": [None, 1, None, 2]}


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", "b", "a"]).dictionary_encode(),
        pa.array([datetime.timedelta(1), None, datetime.timedelta(2)], pa.duration("us")),
        pa.array([NOON, None, NOON], pa.timestamp("us", "Europe/Berlin")),
        pa.array([NOON, None, NOON], pa.timestamp("us")),
        pa.array([datetime.date(2020, 1, 1), None, None], pa.date32()),
        pa.array([Decimal("1.20"), None, None], pa.decimal128(10, 2)),
        pa.array([2**63, None, 1], pa.uint64()),
        pa.array(["a", None, "b"], pa.large_string()),
        pa.array([b"\xff", None, b""]),
        pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
        pa.array([{"a": 1, "b": [1.5]}, None, {"a": None, "b": []}]),
    ],
    ids=lambda column: str(column.type),
)
def test_parquet_stays_as_it_is(tmp_path: Path, column: pa.Array) -> None:
    opened = source(tmp_path / "m.parquet", pa.table({"x": column, "uri": ["a.jpg", None, "a.jpg"]}))
    assert names(opened) == ["a.jpg", "", "a.jpg"]
    assert opened.extra_columns.types == [column.type]
    assert rows(opened)["x"].to_pylist() == column.to_pylist()


def test_unportable_parquet_types_become_portable(tmp_path: Path) -> None:
    pairs = pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2))
    tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.int32(), [2]), pairs)
    opened = source(tmp_path / "m.parquet", pa.table({"uri": ["a", "b"], "pairs": pairs, "tensors": tensors}))
    assert opened.extra_columns.types == [pa.list_(pa.int32()), pa.list_(pa.int32())]
    assert carried(opened) == {"pairs": [[1, 2], [3, 4]], "tensors": [[1, 2], [3, 4]]}


def test_metadata_off_drops_extra_columns(tmp_path: Path) -> None:
    opened = source(tmp_path / "m.csv", "uri,x,x,row_id\na.jpg,1,2,3\n", metadata="off")
    assert (carried(opened), names(opened)) == ({}, ["a.jpg"])
    planned = open_source(
        SourceConfig(uri=str(tmp_path / "m.csv"), metadata="off", rename={"row_id": "r"}), pa.schema([])
    )
    assert planned.extra_columns.names == []


def test_types_are_those_of_the_plan(tmp_path: Path) -> None:
    """Also for a run of an earlier version, with other types, and with columns despite `metadata: off`."""
    pq.write_table(pa.table({"uri": ["a"], "x": pa.array([1.5], pa.float16())}), tmp_path / "m.parquet")
    for metadata in ("auto", "off"):
        config = SourceConfig(uri=str(tmp_path / "m.parquet"), metadata=metadata)
        opened = open_source(config, pa.schema([("x", pa.float16())]))
        assert isinstance(opened, ManifestSource)
        assert opened.extra_columns.types == [pa.float16()]
        assert carried(opened) == {"x": [1.5]}


def test_what_pandas_writes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"uri": ["a.jpg", "b.jpg"], "kind": pd.Categorical(["x", "y"]), "n": [1, 2]})
    frame.to_parquet(tmp_path / "m.parquet")
    opened = source(tmp_path / "m.parquet", pq.read_table(tmp_path / "m.parquet"))
    assert carried(opened) == {"kind": ["x", "y"], "n": [1, 2]}


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_uris_of_any_text_type(tmp_path: Path, kind: pa.DataType) -> None:
    assert names(source(tmp_path / "m.parquet", pa.table({"uri": pa.array(["a.jpg"]).cast(kind)}))) == ["a.jpg"]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("a.jpg", "{folder}/a.jpg"),
        ("x/../a.jpg", "{folder}/a.jpg"),
        ("../a.jpg", "{parent}/a.jpg"),
        ("/abs/a b.jpg", "/abs/a b.jpg"),
        ("file:///abs/a%20b.jpg", "/abs/a b.jpg"),
        ("file:/abs/a%20b.jpg", "/abs/a b.jpg"),
        ("FILE:///abs/a.jpg", "/abs/a.jpg"),
        ("file://localhost/abs/a.jpg", "/abs/a.jpg"),
        ("file://host/abs/a.jpg", "file://host/abs/a.jpg"),
        ("file:a.jpg", "{folder}/file:a.jpg"),
        ("S3://Bucket/A.jpg", "s3://Bucket/A.jpg"),
        ("HTTPS://Host/A.jpg", "https://Host/A.jpg"),
        ("~/a.jpg", "{folder}/~/a.jpg"),
        ("50%20.jpg", "{folder}/50%20.jpg"),
        ("s3://bucket/a.jpg", "s3://bucket/a.jpg"),
        ("a.tar#b://c", "{folder}/a.tar#b:/c"),
    ],
)
def test_uris_resolve_against_the_manifest(tmp_path: Path, uri: str, expected: str) -> None:
    table = rows(source(tmp_path / "m.jsonl", [{"uri": uri}]))
    assert table["image_uri"].to_pylist() == [expected.format(folder=tmp_path, parent=tmp_path.parent)]


def test_size_and_time_of_existing_files(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"12345")
    table = rows(source(tmp_path / "m.jsonl", [{"uri": "a.jpg"}, {"uri": "gone.jpg"}, {"uri": "nul\0.jpg"}]))
    assert table["image_bytes"].to_pylist() == [5, None, None]


@pytest.mark.parametrize(
    "name", ["row_id", "image_uri", "status", "width", "error_type", "exif_camera", "_x", "_location", "source_removed"]
)
def test_reserved_names_are_refused_or_renamed(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        SourceError, match=rf"'{name}' has a name that is reserved for cvbatch; .* source\.rename: \{{{name}: my_"
    ):
        source(tmp_path / "m.csv", f"uri,{name}\na,b\n")
    opened = source(tmp_path / "m.csv", f"uri,{name}\na,b\n", rename={name: "mine"})
    assert carried(opened) == {"mine": ["b"]}


@pytest.mark.parametrize(
    ("name", "content", "options", "expected"),
    [
        ("m.csv", "url\na\n", {}, "expected one column named 'uri', got url; source.uri_column names another"),
        ("m.csv", "uri,uri\na,b\n", {}, "expected one column named 'uri', got uri, uri"),
        ("m.csv", "uri,x,x\na,b,c\n", {}, "two columns are named 'x'"),
        ("m.csv", "uri,x,y\na,b,c\n", {"rename": {"x": "y"}}, "source.rename gives two columns the name 'y'"),
        ("m.csv", "uri,x\na,b\n", {"rename": {"z": "y"}}, "has no column 'z'; it has x"),
        ("m.csv", "", {}, "m.csv is empty: expected a line with the names"),
        ("m.csv", "uri,x\na\n", {}, "line 2: expected 2 fields, as the header has, got 1"),
        ("m.csv", b"uri,x\na,\xff\n", {}, "line 2 is not UTF-8: save the file as UTF-8"),
        ("m.csv", b"uri,\xff\na,b\n", {}, "line 1 is not UTF-8"),
        ("m.jsonl", "", {}, "expected one column named 'uri', got none"),
        ("m.jsonl", '{"uri": "a"}\n{"uri"', {}, "line 2 is not JSON"),
        ("m.jsonl", '["a"]', {}, "line 1: expected an object with a 'uri', got"),
        ("m.jsonl", b'{"uri": "\xff"}', {}, "line 1 is not UTF-8"),
        ("m.jsonl", '{"uri": "a", "x": "\\ud800"}', {}, "the values of 'x' have no common type"),
        ("m.jsonl", '{"uri": "a", "x": 18446744073709551616}', {}, "the values of 'x' have no common type"),
        ("m.jsonl", '{"uri": "a", "x": 1}\n{"uri": "a", "x": "1"}', {}, "the values of 'x' have no common type"),
        (
            "m.jsonl",
            '{"uri": "a", "x": [1]}\n{"uri": "a", "x": {"a": 1}}',
            {},
            "no common type: lists and objects; write",
        ),
        ("m.jsonl", f'{{"uri": "a", "x": {"9" * 5000}}}', {}, "line 1 holds a number with too many digits"),
        ("m.jsonl", f'{{"uri": "a", "x": {"[" * 90}1{"]" * 90}}}', {}, "the column 'x' is list<item: list<"),
        ("m.jsonl", f'{{"uri": "a", "x": {"[" * 500}1{"]" * 500}}}', {}, "which cannot be kept"),
        ("m.jsonl", '{"uri": {"a": 1}}', {}, "the column 'uri' is struct<a: int64>: expected text"),
        ("m.parquet", b"PAR1", {}, "cannot be read as a manifest"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path, name: str, content: bytes | str, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(SourceError) as caught:
        rows(source(tmp_path / name, content, **options))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("values", [("1", '"x"'), ("[1]", '{"a": 1}'), ("1" * 30, "true"), ('"\\ud800"', "{}")])
def test_dropped_columns_can_have_any_type(tmp_path: Path, values: tuple[str, str]) -> None:
    lines = "".join(f'{{"uri": "a", "x": {value}}}\n' for value in values)
    with pytest.raises(SourceError, match=r"the values of 'x' have no common type: .*source\.metadata: off$"):
        source(tmp_path / "m.jsonl", lines)
    result = rows(source(tmp_path / "m.jsonl", lines, metadata="off"))
    assert result["image_uri"].to_pylist() == [f"{tmp_path}/a"] * 2


def test_types_without_a_common_type_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", "1")
    with pytest.raises(SourceError, match="x has incompatible types: int64 vs string"):
        source(tmp_path / "m.jsonl", [{"uri": "a", "x": 1}, {"uri": "a", "x": "1"}])


def test_a_missing_manifest(tmp_path: Path) -> None:
    for name, advice in (
        ("no.csv", "check --source or source.uri"),
        ("*.jsonl", "name each manifest with a --source of its own"),
    ):
        with pytest.raises(SourceError, match=f"the file does not exist; {advice}"):
            open_source(SourceConfig(uri=str(tmp_path / name)))
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(SourceError, match="the file does not exist"):
        open_source(SourceConfig(uri=str(tmp_path / "pipe.csv")))


def test_a_folder_with_the_name_of_a_manifest_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").mkdir()
    assert not open_source(SourceConfig(uri=str(tmp_path / "m.parquet"))).positional
