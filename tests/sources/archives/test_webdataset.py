"""WebDataset: metadata beside an image becomes extra columns, and none of it can stop a run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cvbatch.errors import SourceError
from cvbatch.sources.archives.streams import TAR
from cvbatch.sources.archives.tars import TarIndex
from cvbatch.sources.archives.webdataset import infer_extra_schema
from cvbatch.sources.fetch.blob import open_blob
from cvbatch.sources.suffixes import ImageSuffixes
from tests.sources.shards import Content, kinds, names, planned, source, tar, zipped


def members(*facts: dict[str, Any], stem: str = "s") -> dict[str, Content]:
    """Samples of one image each; `json` is written as JSON, the rest as text."""
    result: dict[str, Content] = {}
    for number, sample in enumerate(facts):
        for kind, value in {"jpg": "image", **sample}.items():
            text = json.dumps(value) if kind == "json" and not isinstance(value, bytes) else value
            result[f"{stem}{number}.{kind}"] = text if isinstance(text, bytes) else str(text).encode()
    return result


def carried(path: Path, **options: Any) -> dict[str, list[Any]]:
    opened = source(path, **options)
    result: dict[str, list[Any]] = planned(opened).select(opened.extra_columns.names).to_pydict()
    return result


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tar.zst", "x.zip"])
def test_metadata_of_each_kind(tmp_path: Path, name: str) -> None:
    values = members(
        {"cls": "3\n", "json": {"a": 1, "b": 0.5, "c": "x", "d": [1, 2], "e": {"f": True}}, "txt": "größe"},
        {"cls": "-4", "json": {"a": 2, "b": 1, "c": "y", "d": [], "e": {"f": None}}},
    )
    write = zipped if name.endswith("zip") else tar
    path = write(tmp_path / name, values)  # type: ignore[operator]  # both take members
    opened = source(path)
    table = planned(opened)
    assert names(table) == ["s0.jpg", "s1.jpg"]
    assert kinds(table) == [b"image"] * 2
    assert carried(path) == {
        "cls": [3, -4], "a": [1, 2], "b": [0.5, 1.0], "c": ["x", "y"], "d": [[1, 2], []],
        "e": [{"f": True}, {"f": None}], "txt": ["größe", None],
    }  # fmt: skip
    assert opened.extra_columns.field("cls").type == pa.int64()
    assert opened.listing.skipped == {}


def test_an_image_without_metadata_has_nulls(tmp_path: Path) -> None:
    result = {"0.cls": b"1", "0.jpg": b"a", "1.jpg": b"b", "2.cls": b"3", "2.jpg": b"c", "3.cls": b"4"}
    opened = source(tar(tmp_path / "x.tar", result))
    assert planned(opened)["cls"].to_pylist() == [1, None, 3]
    assert opened.listing.skipped == {".cls without its image beside it": 1}


def test_images_of_a_sample_share_its_metadata(tmp_path: Path) -> None:
    result = {"d/0.left.jpg": b"l", "d/0.right.JPG": b"r", "d/0.cls": b"7", "d/0.meta.json": b"{}", "e/0.png": b"p"}
    opened = source(tar(tmp_path / "x.tar", result))
    assert planned(opened)["cls"].to_pylist() == [7, 7, None]
    assert opened.listing.skipped == {".json": 1}, "only the stem and the suffix count"


def test_an_archive_that_is_not_sorted_by_sample_is_reported(tmp_path: Path) -> None:
    opened = source(tar(tmp_path / "x.tar", {"0.jpg": b"", "1.jpg": b"", "0.cls": b"1", "1.cls": b"2"}))
    assert planned(opened).num_rows == 2
    assert opened.extra_columns.names == []
    assert opened.listing.skipped == {".cls without its image beside it": 2}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([{"json": {"a": 1}}, {"json": {"a": "x"}}], {"a": ["1", "x"]}),
        ([{"json": {"a": {"b": 1}}}, {"json": {"a": {"c": 1}}}], {"a": ['{"b": 1}', '{"c": 1}']}),
        ([{"json": {"a": {}}}, {"json": {"a": None}}], {"a": ["{}", None]}),
        ([{"json": {"a": 2**70}}, {"json": {"a": 1}}], {"a": [str(2**70), "1"]}),
        ([{"json": {"a": None}}, {"json": {}}], {"a": [None, None]}),
        ([{"json": {"a": "\ud800"}}, {"json": {"a": "b"}}], {"a": ["\\ud800", "b"]}),
        ([{"json": b"[1]"}, {"json": b"{"}], {}),
        ([{"json": b'{"a": ' + b"[" * 100_000}, {"cls": "x"}], {}),
        ([{"cls": "x"}, {"cls": "1"}], {"cls": [None, 1]}),
        ([{"json": b'{"a": 1.5}'}, {"json": b'{"a": NaN}'}], {"a": [1.5, pytest.approx(float("nan"), nan_ok=True)]}),
        ([{"txt": b"\xff"}, {"txt": ""}], {"txt": ["\\xff", ""]}),
        ([{"json": {"a": "x" * (1 << 20)}}, {"txt": "t"}], {"txt": [None, "t"]}),
    ],
)
def test_values_without_a_common_type(tmp_path: Path, facts: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    assert carried(tar(tmp_path / "x.tar", members(*facts))) == expected


def test_the_first_archive_decides_the_extra_columns(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", members({"cls": "1", "json": {"i": 1, "s": "a", "o": {"k": 1}, "l": [1]}}))
    other = [
        {"cls": str(2**70), "json": {"i": "one", "s": {"x": 1}, "o": {"k": 1, "m": 2}, "l": ["a"], "new": 1}},
        {"json": {"i": 2, "s": None, "o": {"k": 5}, "l": [5]}},
    ]
    tar(tmp_path / "1.tar", members(*other))
    assert carried(tmp_path) == {
        "cls": [1, None, None], "i": [1, None, 2], "s": ["a", '{"x": 1}', None],
        "o": [{"k": 1}, None, {"k": 5}], "l": [[1], None, [5]],
    }  # fmt: skip


def test_a_source_that_starts_with_plain_images_has_no_extra_columns(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(b"plain")
    tar(tmp_path / "1.tar", members({"cls": "1"}))
    opened = source(tmp_path)
    assert opened.extra_columns.names == []
    assert kinds(planned(opened)) == [b"plain", b"image"]
    (tmp_path / "0.jpg").rename(tmp_path / "2.jpg")
    assert carried(tmp_path) == {"cls": [1, None]}


def test_only_the_first_samples_decide(tmp_path: Path) -> None:
    shard = tar(tmp_path / "x.tar", members({"json": {"a": 1}}, {"json": {"b": 1}}, {"json": {"a": 1.5, "c": 1}}))
    opened = open_blob(os.fsencode(shard))
    first, whole = (infer_extra_schema(TarIndex(opened, TAR), ImageSuffixes(None), most) for most in (2, 3))
    assert (first.names, whole.names) == (["a", "b"], ["a", "b", "c"])
    assert (first.field("a").type, whole.field("a").type) == (pa.int64(), pa.float64())


def test_metadata_off(tmp_path: Path) -> None:
    opened = source(tar(tmp_path / "x.tar", members({"cls": "1", "json": {"status": 1}})), metadata="off")
    assert kinds(planned(opened)) == [b"image"]
    assert opened.extra_columns.names == []
    assert opened.listing.skipped == {".cls": 1, ".json": 1}


def test_with_any_extension_every_member_is_a_row(tmp_path: Path) -> None:
    opened = source(tar(tmp_path / "x.tar", members({"cls": "1"})), extensions="any")
    assert kinds(planned(opened)) == [b"image", b"1"]
    assert opened.extra_columns.names == []


def test_reserved_names_must_be_renamed(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", members({"json": {"width": 1, "caption": "x", "_key": 2}}))
    with pytest.raises(SourceError, match=r"source\.rename: \{width: my_width, _key: my_key\}"):
        source(path)
    assert carried(path, rename={"width": "w", "_key": "k"}) == {"w": [1], "caption": ["x"], "k": [2]}
    with pytest.raises(SourceError, match=r"x\.tar has no column 'nothing'; it has width, caption, _key"):
        source(path, rename={"nothing": "x"})
