"""Containers among files: their position in the order, and that none of them ends a listing."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from cvbatch.config.job import SourceConfig
from cvbatch.errors import RowError
from cvbatch.sources import open_source
from cvbatch.sources.entries import identity_keys
from tests.sources.shards import arrow, fetched, images, kinds, planned, source, tar, zipped


def mixed(folder: Path) -> list[bytes]:
    """Write files, archives and tables; return the bytes of their images in listing order."""
    (folder / "sub").mkdir(parents=True)
    (folder / "0.jpg").write_bytes(b"0")
    tar(folder / "1.tar", {"a.jpg": b"1a", "b.jpg": b"1b"})
    (folder / "2.jpg").write_bytes(b"2")
    zipped(folder / "3.ZIP", {"a.jpg": b"3a"})
    arrow(folder / "4.arrow", pa.table({"image": images([b"40", b"41"])}))
    tar(folder / "5.tgz", {"a.jpg": b"5a", "b.jpg": b"5b"})
    (folder / "6.jpg").write_bytes(b"6")
    (folder / "sub/7.jpg").write_bytes(b"7")
    return [b"0", b"1a", b"1b", b"2", b"3a", b"40", b"41", b"5a", b"5b", b"6", b"7"]


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_members_take_the_place_of_their_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", str(rows))
    contents = mixed(tmp_path)
    opened = source(tmp_path)
    assert kinds(planned(opened)) == contents
    assert [chunk.num_rows for chunk in opened.iter_chunks()] == [rows] * (11 // rows) + [11 % rows] * (11 % rows > 0)
    assert len(set(identity_keys(planned(opened)))) == 11


def test_a_glob_of_shards(tmp_path: Path) -> None:
    mixed(tmp_path)
    assert kinds(planned(source(tmp_path / "*.t*"))) == [b"1a", b"1b", b"5a", b"5b"]
    assert kinds(planned(source(tmp_path / "**/*.ZIP"))) == [b"3a"]
    assert kinds(planned(source(tmp_path / "4.arrow"))) == [b"40", b"41"]


def test_the_content_decides_the_format(tmp_path: Path) -> None:
    zipped(tmp_path / "zip.tar", {"a.jpg": b"zip"})
    tar(tmp_path / "y.tar.gz", {"a.jpg": b"gzip"}).rename(tmp_path / "gzip.tar")
    tar(tmp_path / "y.tar", {"a.jpg": b"plain"}).rename(tmp_path / "plain.tar.zst")
    assert kinds(planned(source(tmp_path))) == [b"gzip", b"plain", b"zip"]


def test_unreadable_containers_are_reported_and_skipped(tmp_path: Path) -> None:
    contents = mixed(tmp_path)
    (tmp_path / "00.zip").write_bytes(b"not a zip")
    (tmp_path / "00.tar").symlink_to("nowhere")
    (tmp_path / "00.parquet").write_bytes(b"PAR1")
    os.mkfifo(tmp_path / "00.tar.gz")
    (tmp_path / "folder.tar").mkdir()
    opened = source(tmp_path)
    result = planned(opened)
    assert [item for item in kinds(result) if isinstance(item, bytes)] == contents
    lost = {
        os.path.basename(uri): (error.stage, error.type)
        for uri, error in zip(result["image_uri"].to_pylist(), fetched(result), strict=True)
        if isinstance(error, RowError)
    }
    assert lost == {
        "00.zip": ("list", "DamagedArchive"),
        "00.tar": ("list", "NotFound"),
        "00.parquet": ("list", "DamagedTable"),
        "00.tar.gz": ("list", "NotARegularFile"),
    }
    assert opened.listing.lost == 4
    assert len(set(identity_keys(result))) == result.num_rows
    assert {os.path.basename(path) for path in opened.listing.unreadable} == {
        "00.zip", "00.tar", "00.parquet", "00.tar.gz"
    }  # fmt: skip
    assert opened.listing.unreadable[f"{tmp_path}/00.tar"] == "broken symbolic link to nowhere"


def test_a_shard_whose_name_is_not_utf8(tmp_path: Path) -> None:
    path = os.fsencode(tar(tmp_path / "x.tar", {"a.jpg": b"a"}).parent) + b"/caf\xe9.tar"
    os.rename(tmp_path / "x.tar", path)
    table = planned(source(tmp_path))
    assert table["image_uri"].to_pylist() == [f"{tmp_path}/caf\\xe9.tar#a.jpg"]
    assert kinds(table) == [b"a"]


def test_a_file_that_is_named_like_a_member(tmp_path: Path) -> None:
    tar(tmp_path / "x.tar", {"a.jpg": b"member"})
    (tmp_path / "x.tar#a.jpg").write_bytes(b"file")
    table = planned(source(tmp_path))
    assert kinds(table) == [b"member", b"file"]
    assert len(set(table["image_uri"].to_pylist())) == 1
    assert len(set(identity_keys(table))) == 2


def test_planned_columns_stay(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", {"a.jpg": b"0", "a.json": b'{"new": 1, "old": "x"}'})
    config = SourceConfig(uri=str(tmp_path), rename={"old": "before"})
    opened = open_source(config, pa.schema([("before", pa.string()), ("gone", pa.int64())]))
    assert planned(opened).select(["before", "gone"]).to_pylist() == [{"before": "x", "gone": None}]
