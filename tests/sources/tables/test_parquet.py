"""Parquet tables with images: choice of the image column, extra columns, and partial reads."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvbatch.errors import SourceError
from cvbatch.sources.entries import ENTRY_FIELDS
from cvbatch.sources.local_files import LocalFileSource
from cvbatch.sources.manifest import ManifestSource
from tests.rigs.process import bytes_read
from tests.sources.shards import images, kinds, names, planned, source

CONTENTS: list[bytes | None] = [b"a", b"bb" * 500, None, b"", b"eeeee"]


def parquet(path: Path, columns: dict[str, Any], metadata: Any = None, **options: Any) -> Path:
    table = pa.table(columns)
    if metadata is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), None])
@pytest.mark.parametrize("rows", [2, 100])
def test_each_row_is_an_image(tmp_path: Path, kind: pa.DataType | None, rows: int) -> None:
    column = images(CONTENTS, ["p", *[None] * 4]) if kind is None else pa.array(CONTENTS, kind)
    path = parquet(
        tmp_path / "x.parquet", {"n": range(5), "image": column, "label": list("vwxyz")}, row_group_size=rows
    )
    opened = source(path)
    table = planned(opened)
    assert table["image_uri"].to_pylist() == [f"{path}#{row}" for row in range(5)]
    assert kinds(table) == [b"a", b"bb" * 500, "NoImage", b"", b"eeeee"]
    assert kinds(table.take([4, 1, 3])) == [b"eeeee", b"bb" * 500, b""]
    assert table.select(["n", "label"]).to_pydict() == {"n": list(range(5)), "label": list("vwxyz")}
    assert opened.extra_columns.names == ["n", "label"] + (["image_path"] if kind is None else [])
    if kind is None:
        assert table["image_path"].to_pylist() == ["p", None, None, None, None]
    assert not opened.positional
    assert planned(source(path, metadata="off")).column_names == [column.name for column in ENTRY_FIELDS]


FEATURES = {"info": {"features": {"photo": {"_type": "Image"}, "sound": {"_type": "Audio"}}}}


@pytest.mark.parametrize(
    ("columns", "options", "found"),
    [
        ({"photo": b"bytes"}, {}, b"bytes"),
        ({"image": b"right", "thumb": b"wrong"}, {}, b"right"),
        ({"photo": b"wrong", "thumb": b"right"}, {"image_column": "thumb"}, b"right"),
        ({"file": images([b"right"]), "other": b"wrong"}, {}, b"right"),
        ({"image": images([b"right"]), "mask": images([b"wrong"])}, {}, b"right"),
        ({"image": images([b"wrong"]), "mask": images([b"right"])}, {"image_column": "mask"}, b"right"),
    ],
)
def test_choice_of_the_image_column(
    tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], found: bytes
) -> None:
    arrays = {name: [value] if isinstance(value, bytes) else value for name, value in columns.items()}
    opened = source(parquet(tmp_path / "x.parquet", arrays), **options)
    assert kinds(planned(opened)) == [found]
    assert not any(pa.types.is_struct(column.type) for column in opened.extra_columns), (
        "other files stay where they are"
    )


def test_image_columns_declared_by_datasets(tmp_path: Path) -> None:
    columns = {"sound": images([b"wrong"]), "photo": images([b"right"])}
    assert kinds(planned(source(parquet(tmp_path / "x.parquet", columns, FEATURES)))) == [b"right"]
    features = {"info": {"features": {"sound": {"_type": "Audio"}}}}
    with pytest.raises(SourceError, match="expected one column named 'uri', got sound"):
        source(parquet(tmp_path / "x.parquet", {"sound": images([b"x"])}, features))


def test_ambiguous_image_columns_are_an_error(tmp_path: Path) -> None:
    opened = source(path := parquet(tmp_path / "x.parquet", {"front": [b"f"], "back": [b"b"]}))
    assert kinds(planned(opened)) == ["NoImageColumn"]
    assert "front, back; set source.image_column" in opened.listing.unreadable[str(path)]


def test_a_table_with_a_uri_stays_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"file")
    path = parquet(tmp_path / "x.parquet", {"uri": ["a.jpg"], "thumb": [b"thumb"], "url": ["a.jpg"]})
    opened = source(path)
    assert isinstance(opened, ManifestSource)
    assert kinds(planned(opened)) == [b"file"]
    assert kinds(planned(source(path, image_column="thumb"))) == [b"thumb"]
    assert isinstance(source(path, uri_column="url"), ManifestSource)
    with pytest.raises(SourceError, match="expected one column named 'uri', got a, b"):
        source(parquet(tmp_path / "y.parquet", {"a": [1], "b": [2]}))


def test_folders_and_globs_of_tables(tmp_path: Path) -> None:
    parquet(tmp_path / "data/train-00000-of-00002.parquet", {"image": images([b"0"]), "label": [7]})
    parquet(tmp_path / "data/train-00001-of-00002.parquet", {"image": images([b"1"]), "more": [1], "label": [8.0]})
    parquet(tmp_path / "data/zz.parquet", {"image": images([b"2"]), "label": ["text"]})
    parquet(tmp_path / "labels.parquet", {"uri": ["a.jpg"]})
    (tmp_path / "README.md").touch()
    opened = source(tmp_path)
    table = planned(opened)
    assert kinds(table) == [b"0", b"1", b"2"]
    assert table["label"].to_pylist() == [7, 8, None]
    assert opened.extra_columns.names == ["label", "image_path"]
    assert opened.listing.skipped == {".parquet": 1, ".md": 1}
    assert names(planned(source(tmp_path / "data/train-*.parquet"))) == ["0", "0"]
    assert isinstance(source(tmp_path / "data/*.parquet"), LocalFileSource)


def test_rows_that_only_name_a_file(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/a.jpg").write_bytes(b"beside the table")
    paths = ["below/a.jpg", str(tmp_path / "below/a.jpg"), "none.jpg", "https://host/a.jpg"]
    table = planned(source(parquet(tmp_path / "x.parquet", {"image": images([None] * 4, paths)})))
    assert kinds(table) == [b"beside the table"] * 2 + ["NotFound", "NotFound"]


def test_a_unit_reads_only_what_it_needs(tmp_path: Path) -> None:
    columns = {"image": [os.urandom(100_000) for _ in range(20)], "other": [os.urandom(100_000) for _ in range(20)]}
    path = parquet(tmp_path / "x.parquet", columns, row_group_size=5)
    table = planned(source(path, image_column="image", metadata="off"))
    assert all(195_000 < size < 205_000 for size in table["image_bytes"].to_pylist())
    before = bytes_read()
    assert kinds(table.slice(6, 2)) == columns["image"][6:8]
    assert bytes_read() - before < 1_700_000, "of 4 MB: one row group of one column, and the footer"


def test_damage(tmp_path: Path) -> None:
    columns = {"image": [os.urandom(50_000) for _ in range(8)]}
    path = parquet(tmp_path / "x.parquet", columns, row_group_size=2, compression="zstd", write_page_checksum=True)
    table = planned(source(path))
    whole = path.read_bytes()
    path.write_bytes(whole[:130_000] + b"\xff" * 1000 + whole[131_000:])
    assert kinds(table) == [*columns["image"][:2], "DamagedTable", "DamagedTable", *columns["image"][4:]]
    path.write_bytes(whole[:200_000])
    assert kinds(table) == ["DamagedTable"] * 8
    opened = source(tmp_path)
    assert kinds(planned(opened)) == ["DamagedTable"]
    assert list(opened.listing.unreadable) == [str(path)]
    path.unlink()
    assert kinds(table) == ["NotFound"] * 8


def test_a_table_that_changed_after_planning(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", {"image": [b"0", b"1", b"2"]})
    table = planned(source(path))
    parquet(path, {"image": [b"new"]})
    assert kinds(table) == [b"new", "ArchiveChanged", "ArchiveChanged"]
    parquet(path, {"photo": [b"0", b"1", b"2"]})
    assert kinds(table) == ["ArchiveChanged"] * 3


def test_empty_tables(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", {"image": pa.array([], pa.binary()), "n": pa.array([], pa.int64())})
    opened = source(path)
    assert kinds(planned(opened)) == ["NoImages"]
    assert opened.extra_columns.names == ["n"]


@pytest.mark.parametrize(
    ("columns", "options", "expected"),
    [
        ({"image": [[1, 2, 3]]}, {}, "the column 'image' is list<element: int64>: expected encoded images"),
        ({"jpg": pa.array([[1, 2]], pa.list_(pa.uint8()))}, {}, "the column 'jpg' is list<element: uint8>"),
        ({"image": [{"bytes": [1, 2], "path": "a"}]}, {}, "the column 'image' is struct<bytes: list<element: int64>"),
        ({"x": [{"bytes": "text"}]}, {}, "the column 'x' is struct<bytes: string>: expected encoded images (binary"),
        ({"images": [[{"bytes": b"a", "path": "a"}]]}, {}, "the column 'images' is list<element: struct<bytes: binary"),
        (
            {"image": [b"a"]},
            {"image_column": "photo"},
            "it has no column 'photo', which source.image_column names; it has",
        ),
        ({"image": ["a.jpg"]}, {"image_column": "image"}, "the column 'image' is string: expected encoded images"),
    ],
)
def test_image_columns_of_a_wrong_type_are_reported(
    tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], expected: str
) -> None:
    path = parquet(tmp_path / "f/x.parquet", columns)
    (tmp_path / "f/good.jpg").write_bytes(b"good")
    parquet(tmp_path / "f/labels.parquet", {"label": [1], "name": ["a"]})
    opened = source(tmp_path / "f", **options)
    assert kinds(planned(opened)) == [b"good", "NoImageColumn"]
    assert opened.listing.skipped == {".parquet": 1}
    assert expected in opened.listing.unreadable[str(path)]
    if not options:
        with pytest.raises(SourceError, match=re.escape(expected)):
            planned(source(path))


def test_tables_of_labels_beside_images_are_not_lost_images(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    parquet(
        tmp_path / "labels.parquet", {"image": ["a.jpg"], "label": [1], "md5": pa.array([b"0" * 16], pa.binary(16))}
    )
    opened = source(tmp_path)
    assert kinds(planned(opened)) == [b"a"]
    assert (opened.listing.skipped, opened.listing.unreadable) == ({".parquet": 1}, {})
