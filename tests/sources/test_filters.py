"""Filters of a listing over files, objects and archives, and the counts of skipped items."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvbatch.config.job import SourceConfig
from cvbatch.errors import SourceError
from cvbatch.sources import open_source
from cvbatch.sources.filters import NO_FILTERS, FileFilters, to_nanoseconds
from tests.rigs.objects import ObjectServer
from tests.sources.shards import tarred

OLD = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
SIZES = {"tiny.jpg": 5, "a/small.jpg": 100, "a/large.jpg": 2000, "thumbs/b.jpg": 100, "a/thumbs/deep/c.jpg": 100}


def listed(uri: str, **options: Any) -> tuple[list[str], dict[str, int]]:
    source = open_source(SourceConfig.model_validate({"uri": uri, **options}))
    counts = []
    for _ in range(2):  # a second listing starts from the beginning
        uris = [uri for chunk in source.iter_chunks() for uri in chunk["image_uri"].to_pylist()]
        counts.append(dict(source.listing.skipped))
    assert counts[0] == counts[1]
    return sorted(uris), counts[0]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Files of the sizes above, and a text."""
    for name, size in SIZES.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    (tmp_path / "photos" / "thumbs" / "note.txt").write_bytes(b"x")
    return str(tmp_path / "photos")


@pytest.fixture(scope="module")
def bucket(object_server: ObjectServer) -> Iterator[str]:
    """The same as objects."""
    name = object_server.make_bucket("images")
    content = {f"photos/{key}": b"x" * size for key, size in SIZES.items()}
    object_server.put(name, {**content, "photos/thumbs/note.txt": b"x"})
    object_server.put(
        name, {"shards/s.tar": tarred({"a/1.jpg": b"x" * 5, "a/2.jpg": b"x" * 50, "thumbs/3.jpg": b"x" * 50})}
    )
    yield f"s3://{name}/photos/"
    object_server.empty(name)


CASES = [
    ({}, list(SIZES), {}),
    ({"min_bytes": 6}, ["a/small.jpg", "a/large.jpg", "thumbs/b.jpg", "a/thumbs/deep/c.jpg"], {"below min_bytes": 1}),
    ({"min_bytes": 5, "max_bytes": 100}, [key for key in SIZES if key != "a/large.jpg"], {"above max_bytes": 1}),
    ({"min_bytes": "1kB"}, ["a/large.jpg"], {"below min_bytes": 4}),
    ({"exclude": ["thumbs"]}, ["tiny.jpg", "a/small.jpg", "a/large.jpg"], {"excluded": 2}),
    ({"exclude": ["thumbs/"]}, [key for key in SIZES if key != "thumbs/b.jpg"], {"excluded": 1}),
    ({"exclude": ["/thumbs"]}, [key for key in SIZES if key != "thumbs/b.jpg"], {"excluded": 1}),
    ({"exclude": ["*/thumbs", "tiny*"]}, ["a/small.jpg", "a/large.jpg", "thumbs/b.jpg"], {"excluded": 2}),
    ({"exclude": ["**/[bc].jpg"]}, ["tiny.jpg", "a/small.jpg", "a/large.jpg"], {"excluded": 2}),
    ({"exclude": ["THUMBS", "photos"]}, list(SIZES), {}),
    ({"exclude": ["a/**"], "min_bytes": 6}, ["thumbs/b.jpg"], {"excluded": 3, "below min_bytes": 1}),
]


@pytest.mark.parametrize(("options", "kept", "counts"), CASES)
def test_files(folder: str, options: dict[str, Any], kept: list[str], counts: dict[str, int]) -> None:
    uris, skipped = listed(folder, **options)
    assert (uris, skipped) == (sorted(f"{folder}/{name}" for name in kept), {".txt": 1, **counts})


@pytest.mark.parametrize(("options", "kept", "counts"), CASES)
def test_objects(
    bucket: str, as_job: ObjectServer, options: dict[str, Any], kept: list[str], counts: dict[str, int]
) -> None:
    uris, skipped = listed(bucket, endpoint_url=as_job.endpoint, **options)
    assert (uris, skipped) == (sorted(f"{bucket}{name}" for name in kept), {".txt": 1, **counts})


def test_objects_by_their_time(bucket: str, as_job: ObjectServer) -> None:
    uris, skipped = listed(bucket, endpoint_url=as_job.endpoint, modified_since=OLD)
    assert (len(uris), skipped) == (5, {".txt": 1})
    tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    uris, skipped = listed(bucket, endpoint_url=as_job.endpoint, modified_since=tomorrow)
    assert (uris, skipped) == ([], {".txt": 1, "before modified_since": 5})


def test_archives_in_a_bucket(bucket: str, as_job: ObjectServer) -> None:
    shards = bucket.replace("/photos/", "/shards/")
    uris, skipped = listed(shards, endpoint_url=as_job.endpoint, min_bytes=6, exclude=["thumbs"], modified_since=OLD)
    assert (uris, skipped) == ([f"{shards}s.tar#a/2.jpg"], {"below min_bytes": 1, "excluded": 1})
    uris, skipped = listed(shards, endpoint_url=as_job.endpoint, modified_since="2100-01-01")
    assert (uris, skipped) == ([], {"before modified_since": 1})


def test_exclude_is_relative_to_the_folder_before_the_first_wildcard(folder: str) -> None:
    uris, skipped = listed(f"{folder}/a/**/*.jpg", exclude=["thumbs/deep"])
    assert (uris, skipped) == ([f"{folder}/a/large.jpg", f"{folder}/a/small.jpg"], {"excluded": 1})
    uris, _ = listed(f"{folder}/*/*.jpg", exclude=["thumbs/*"])
    assert uris == [f"{folder}/a/large.jpg", f"{folder}/a/small.jpg"]


def test_one_file(folder: str) -> None:
    assert listed(f"{folder}/tiny.jpg", exclude=["tiny.jpg"]) == ([], {"excluded": 1})
    assert listed(f"{folder}/tiny.jpg", min_bytes=6) == ([], {"below min_bytes": 1})


@pytest.mark.parametrize(
    ("since", "kept"),
    [
        ("2020-01-01", 5),
        ("2020-01-01T00:00:00Z", 5),
        ("2020-01-01T01:00:00+01:00", 5),
        ("2020-01-01T00:00:00.000001", 4),
        ("2020-01-02", 4),
        (datetime.date(2020, 1, 2), 4),
        (datetime.datetime(2020, 1, 1), 5),
    ],
)
def test_files_by_their_time(folder: str, since: Any, kept: int) -> None:
    index = to_nanoseconds(OLD)
    os.utime(f"{folder}/tiny.jpg", ns=(index, index))
    uris, skipped = listed(folder, modified_since=since)
    assert (len(uris), skipped.get("before modified_since", 0)) == (kept, 5 - kept)


def test_unknown_sizes_and_times_pass(folder: str) -> None:
    """Broken links and FIFOs stay: they are error rows that users should see."""
    os.symlink("nowhere", f"{folder}/broken.jpg")
    os.mkfifo(f"{folder}/pipe.jpg")
    uris, _ = listed(folder, min_bytes="1GB", modified_since=OLD)
    assert uris == [f"{folder}/broken.jpg", f"{folder}/pipe.jpg"]


def test_members_of_archives(tmp_path: Path) -> None:
    members = {"a/1.jpg": 5, "a/2.jpg": 50, "thumbs/3.jpg": 50, "b/4.jpg": 500}
    (tmp_path / "s.tar").write_bytes(tarred({name: b"x" * size for name, size in members.items()}))
    shard = f"{tmp_path}/s.tar"
    assert listed(str(tmp_path), min_bytes=6, max_bytes=100, exclude=["thumbs/*"]) == (
        [f"{shard}#a/2.jpg"],
        {"below min_bytes": 1, "above max_bytes": 1, "excluded": 1},
    )
    assert listed(str(tmp_path), exclude=["*.tar"]) == ([], {"excluded": 1})
    # the size of the archive itself is ignored
    assert len(listed(shard, max_bytes=500)[0]) == 4


def test_archives_by_the_time_of_the_archive(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / f"{name}.tar").write_bytes(tarred({"1.jpg": b"x", "2.jpg": b"x"}))
    index = to_nanoseconds(OLD)
    os.utime(tmp_path / "old.tar", ns=(index, index))
    uris, skipped = listed(str(tmp_path), modified_since="2021-01-01")
    assert (uris, skipped) == (
        [f"{tmp_path}/new.tar#1.jpg", f"{tmp_path}/new.tar#2.jpg"],
        {"before modified_since": 1},
    )


def test_skipped_containers_do_not_decide_the_extra_columns(tmp_path: Path) -> None:
    """The extra columns are those of the first container that is not skipped."""
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "b.tar").write_bytes(tarred({"1.jpg": b"xx", "1.json": b'{"place": "here"}'}))
    source = open_source(SourceConfig(uri=str(tmp_path), min_bytes=2))
    assert source.extra_columns == pa.schema([("place", pa.string())])
    assert pa.concat_tables(source.iter_chunks())["place"].to_pylist() == ["here"]
    assert open_source(SourceConfig(uri=str(tmp_path))).extra_columns == pa.schema([])


def test_rows_of_tables(tmp_path: Path) -> None:
    table = pa.table({"image": [b"x", b"x" * 10, None], "n": [1, 2, 3]})
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    uris, skipped = listed(str(tmp_path), min_bytes=2)
    assert (uris[0], skipped) == (f"{tmp_path}/t.arrow#1", {"below min_bytes": 1})


def test_filters_are_refused_for_manifests(tmp_path: Path) -> None:
    manifest = tmp_path / "m.parquet"
    pq.write_table(pa.table({"uri": ["a.jpg"]}), manifest)
    for option in ({"min_bytes": 1}, {"modified_since": OLD}, {"exclude": ["a"]}):
        with pytest.raises(SourceError, match="a manifest is used line by line"):
            listed(str(manifest), **option)
    assert listed(str(manifest), max_bytes=1) == ([f"{tmp_path}/a.jpg"], {})


def test_no_filters_by_default() -> None:
    assert FileFilters.from_config(SourceConfig(uri="photos")) == NO_FILTERS
