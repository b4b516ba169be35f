"""Arrow files, streams, and the folders that `save_to_disk` writes."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pytest

from cvbatch.errors import SourceError
from cvbatch.sources.manifest import ManifestSource
from tests.sources.shards import arrow, images, kinds, names, planned, saved, source

CONTENTS: list[bytes | None] = [b"a", b"bb" * 500, None, b"", b"eeeee"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), None])
@pytest.mark.parametrize("rows", [2, None])
def test_each_row_is_an_image(
    tmp_path: Path, stream: bool, packed: bool, kind: pa.DataType | None, rows: int | None
) -> None:
    column = images(CONTENTS, ["p", *[None] * 4]) if kind is None else pa.array(CONTENTS, kind)
    table = pa.table({"n": range(5), "image": column, "d": pa.array(list("xyxyx")).dictionary_encode()})
    path = arrow(tmp_path / "x.arrow", table, rows=rows, stream=stream, packed=packed)
    result = planned(source(path))
    assert result["image_uri"].to_pylist() == [f"{path}#{row}" for row in range(5)]
    assert result["image_bytes"].to_pylist() == [1, 1000, None, 0, 5]
    assert kinds(result) == [b"a", b"bb" * 500, "NoImage", b"", b"eeeee"]
    assert kinds(result.take([4, 1, 3])) == [b"eeeee", b"bb" * 500, b""]
    assert result["n"].to_pylist() == list(range(5))
    assert result["d"].to_pylist() == list("xyxyx")
    if kind is None:
        assert result["image_path"].to_pylist() == ["p", None, None, None, None]
    raw = not packed and kind != pa.binary_view()
    hows = {span["how"] for span in result["_span"].to_pylist() if span["size"]}
    assert hows == ({"range"} if raw else set())


def test_feather(tmp_path: Path) -> None:
    table = pa.table({"image": images(CONTENTS), "n": range(5)})
    for compression in ("lz4", "uncompressed"):
        feather.write_feather(table, str(tmp_path / "x.feather"), compression=compression)
        assert kinds(planned(source(tmp_path / "x.feather"))) == [b"a", b"bb" * 500, "NoImage", b"", b"eeeee"]


def test_a_dataset_on_disk(tmp_path: Path) -> None:
    saved(tmp_path / "set", [b"0", b"1", b"2"], [b"3"])
    arrow(tmp_path / "set/cache-1f3a.arrow", pa.table({"image": images([b"cached"])}))
    opened = source(tmp_path / "set")
    table = planned(opened)
    assert kinds(table) == [b"0", b"1", b"2", b"3"]
    assert names(table) == ["0", "1", "2", "0"]
    assert table["label"].to_pylist() == [0, 1, 2, 0]
    assert opened.listing.skipped == {".arrow": 1, ".json": 2}
    (tmp_path / "set/state.json").write_text("[]")
    assert b"cached" in kinds(planned(source(tmp_path / "set"))), "without the list everything is data"


def test_splits_of_a_dataset(tmp_path: Path) -> None:
    saved(tmp_path / "set/train", [b"0", b"1"])
    saved(tmp_path / "set/test", [b"2"])
    (tmp_path / "set/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    table = planned(source(tmp_path / "set"))
    assert [os.path.basename(os.path.dirname(uri)) for uri in table["image_uri"].to_pylist()] == ["test"] + [
        "train"
    ] * 2
    assert kinds(table) == [b"2", b"0", b"1"]


@pytest.mark.parametrize("packed", [True, False])
def test_damage(tmp_path: Path, packed: bool) -> None:
    contents = [os.urandom(10_000) for _ in range(6)]
    path = arrow(tmp_path / "x.arrow", pa.table({"image": contents}), rows=2, packed=packed)
    table = planned(source(path))
    whole = path.read_bytes()
    path.write_bytes(whole[:30_000])
    cut = kinds(table)
    assert cut[2:] == ["ArchiveChanged" if not packed else "DamagedTable"] * 4
    opened = source(path)
    assert kinds(planned(opened))[:2] == contents[:2]
    assert list(opened.listing.unreadable) == [str(path)]
    path.write_bytes(whole[:20] + b"\xff" * 200 + whole[220:])
    assert all(kind in ("DamagedTable", contents[index]) for index, kind in enumerate(kinds(table)))
    for content in (b"", b"FEA1" + b"x" * 100, b"text" * 100):
        path.write_bytes(content)
        opened = source(tmp_path)
        assert kinds(planned(opened)) == ["DamagedTable" if content else "EmptyFile"]
        assert list(opened.listing.unreadable) == [str(path)]


def test_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"file")
    opened = source(arrow(tmp_path / "x.arrow", pa.table({"uri": ["a.jpg"], "n": [1]})))
    assert isinstance(opened, ManifestSource)
    assert kinds(planned(opened)) == [b"file"]
    assert planned(opened)["n"].to_pylist() == [1]
    with pytest.raises(SourceError, match="expected one column named 'uri', got n"):
        source(arrow(tmp_path / "x.arrow", pa.table({"n": [1]})))
