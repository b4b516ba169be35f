"""Images in a bucket of a real server: listing, filters and reading."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pytest

from cvbatch.config.job import SourceConfig
from cvbatch.errors import DeniedError, RowError, SourceError, capture_row_error
from cvbatch.schema import ETAG
from cvbatch.sources import open_source
from cvbatch.sources.fetch.plan_rows import check_source_access, plan_fetches
from cvbatch.storage.fetch_options import FetchOptions
from cvbatch.storage.options import StorageOptions
from tests.rigs.faults import Fault, FaultProxy
from tests.rigs.objects import ObjectServer
from tests.sources.shards import tarred

OBJECTS = {
    "2019/a.jpg": b"a",
    "2019/b.JPG": b"bb",
    "2019/notes.txt": b"text",
    "2019/.hidden.jpg": b"no",
    "2019/.cache/x.jpg": b"no",
    "2019/may/c d+é%#.png": b"ccc",
    "2019/may/week/d.jpg": b"dddd",
    "2019/june/e.jpg": b"eeeee",
    "2019/folder.jpg/": b"",
    "20190/f.jpg": b"other",
}


@pytest.fixture(scope="module")
def images(object_server: ObjectServer) -> str:
    """A bucket with images that a job may read."""
    name = object_server.make_bucket("images")
    object_server.put(name, OBJECTS)
    return name


def source(server: ObjectServer, uri: str, **options: Any) -> Any:
    return open_source(SourceConfig(**{"uri": uri, "endpoint_url": server.endpoint, **options}))


def listed(opened: Any) -> pa.Table:
    return pa.concat_tables(opened.iter_chunks())


def names(opened: Any) -> list[str]:
    return [uri.partition("/2019/")[2] for uri in listed(opened)["image_uri"].to_pylist()]


@pytest.mark.usefixtures("as_job")
def test_everything_below_a_prefix_in_the_order_of_the_keys(object_server: ObjectServer, images: str) -> None:
    opened = source(object_server, f"s3://{images}/2019")
    expected = ["a.jpg", "b.JPG", "june/e.jpg", "may/c d+é%#.png", "may/week/d.jpg"]
    for _ in range(2):  # a second listing starts from the beginning
        table = listed(opened)
        assert names(opened) == expected
        assert opened.listing.skipped == {".txt": 1}
    assert table["image_bytes"].to_pylist() == [1, 2, 5, 3, 4]
    assert all(table[ETAG].to_pylist())
    assert names(source(object_server, f"s3://{images}/2019/")) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("2019/a.jpg", ["a.jpg"]),
        ("2019/*.jpg", ["a.jpg"]),
        ("2019/**/*.jpg", ["a.jpg", "june/e.jpg", "may/week/d.jpg"]),
        ("2019/[jm]*/*", ["june/e.jpg", "may/c d+é%#.png"]),
    ],
)
@pytest.mark.usefixtures("as_job")
def test_globs_and_single_objects(object_server: ObjectServer, images: str, pattern: str, expected: list[str]) -> None:
    assert names(source(object_server, f"s3://{images}/{pattern}")) == expected


@pytest.mark.usefixtures("as_job")
def test_the_first_page_is_listed_once(object_server: ObjectServer, images: str, faults: FaultProxy) -> None:
    expected = listed(source(object_server, f"s3://{images}/2019/"))
    with faults.doing() as requests:
        opened = source(object_server, f"s3://{images}/2019/", endpoint_url=faults.endpoint)
        assert len(requests) == 1, "the level, on which the first image lies"
        assert listed(opened) == expected
        assert len(requests) == 5, "the four folders"
        assert opened.listing.skipped == {".txt": 1}
        assert listed(opened) == expected
        assert len(requests) == 10, "another time everything is new"


@pytest.mark.usefixtures("as_job")
def test_what_is_not_there(object_server: ObjectServer, images: str) -> None:
    with pytest.raises(SourceError, match=r"no such object and no objects below it; check --source or source\.uri"):
        source(object_server, f"s3://{images}/nowhere")
    with pytest.raises(DeniedError, match="credentials"):
        source(object_server, "s3://another-bucket/2019")


@pytest.mark.usefixtures("as_job")
def test_bytes_are_unchanged_and_missing_objects_are_errors(object_server: ObjectServer, images: str) -> None:
    table = listed(source(object_server, f"s3://{images}/2019"))
    reach = FetchOptions(StorageOptions(endpoint_url=object_server.endpoint))
    assert [read() for read in plan_fetches(table, reach)] == [b"a", b"bb", b"eeeee", b"ccc", b"dddd"]
    gone = pa.table({"image_uri": [f"s3://{images}/2019/gone.jpg"], "image_bytes": pa.nulls(1, pa.int64())})
    gone = gone.append_column("_location", pa.nulls(1, pa.binary()))
    answer = capture_row_error("fetch", plan_fetches(gone, reach)[0])
    assert answer == RowError("fetch", "NotFound", "the object does not exist (any more)")


@pytest.mark.usefixtures("as_job")
def test_a_changed_object_is_detected(object_server: ObjectServer) -> None:
    bucket = object_server.make_bucket("images")
    object_server.put(bucket, {"a.jpg": b"old", "b.jpg": b"same"})
    table = listed(source(object_server, f"s3://{bucket}"))
    object_server.put(bucket, {"a.jpg": b"new"})
    changed: list[int] = []
    reads = plan_fetches(table, FetchOptions(StorageOptions(endpoint_url=object_server.endpoint)), changed.append)
    assert [read() for read in reads] == [b"new", b"same"]
    assert changed == [0]


@pytest.mark.usefixtures("as_job")
def test_a_source_without_read_permission_is_refused(
    object_server: ObjectServer, images: str, faults: FaultProxy
) -> None:
    table = listed(source(object_server, f"s3://{images}/2019"))
    reach = FetchOptions(StorageOptions(endpoint_url=object_server.endpoint))
    check_source_access([table], reach)
    denied = FetchOptions(StorageOptions(endpoint_url=faults.endpoint))
    with faults.doing(Fault("status", status=403, path="a.jpg|b.JPG", times=99)) as requests:
        check_source_access([table.slice(0, 2), table.slice(2)], denied)
    assert [item.path.rpartition("/2019/")[2] for item in requests] == ["a.jpg", "b.JPG", "june/e.jpg"]
    with pytest.raises(SourceError, match="none of the 5 images that were tried can be read"):
        check_source_access(
            [table.slice(0, 2), table.slice(2)],
            FetchOptions(StorageOptions(endpoint_url=object_server.endpoint, anonymous=True)),
        )


@pytest.mark.usefixtures("as_job")
def test_throttled_requests_are_retried(object_server: ObjectServer, images: str, faults: FaultProxy) -> None:
    table = listed(source(object_server, f"s3://{images}/2019"))
    reach = FetchOptions(StorageOptions(endpoint_url=faults.endpoint))
    with faults.doing(Fault("status", times=4), Fault("reset", times=1, after=1)):
        assert [read() for read in plan_fetches(table, reach)] == [b"a", b"bb", b"eeeee", b"ccc", b"dddd"]


@pytest.mark.usefixtures("as_job")
def test_tables_are_read_with_the_storage_options_of_the_job(object_server: ObjectServer) -> None:
    bucket = object_server.make_bucket("images")
    data = io.BytesIO()
    table = pa.table({"image": pa.array([b"one", b"two"], pa.binary())})
    with pa.ipc.new_stream(data, table.schema) as writer:
        writer.write_table(table)
    object_server.put(bucket, {"set/data-0.arrow": data.getvalue(), "set/cache-1.arrow": data.getvalue()})
    opened = source(object_server, f"s3://{bucket}/set")
    assert len(listed(opened)) == 4
    assert opened.listing.unreadable == {}
    state = {"_data_files": [{"filename": "data-0.arrow"}]}
    object_server.put(bucket, {"set/state.json": json.dumps(state).encode()})
    rows = listed(source(object_server, f"s3://{bucket}/set"))
    reach = FetchOptions(StorageOptions(endpoint_url=object_server.endpoint))
    assert [read() for read in plan_fetches(rows, reach)] == [b"one", b"two"]


@pytest.mark.usefixtures("as_job")
def test_archives_and_manifests_in_buckets(object_server: ObjectServer) -> None:
    bucket = object_server.make_bucket("images")
    lines = ["uri,place", "photos/x.jpg,here", f"s3://{bucket}/photos/y.jpg,there", "../../photos/x.jpg,up"]
    object_server.put(
        bucket,
        {
            "shards/0.tar": tarred({"1.jpg": b"one", "1.json": json.dumps({"n": 1}).encode(), "2.jpg": b"two"}),
            "list.csv": "\n".join(lines).encode(),
            "photos/x.jpg": b"x",
            "photos/y.jpg": b"y",
        },
    )
    reach = FetchOptions(StorageOptions(endpoint_url=object_server.endpoint))
    shards = listed(source(object_server, f"s3://{bucket}/shards/*.tar"))
    assert shards["image_uri"].to_pylist() == [f"s3://{bucket}/shards/0.tar#{name}.jpg" for name in (1, 2)]
    assert shards["n"].to_pylist() == [1, None]
    assert [read() for read in plan_fetches(shards, reach)] == [b"one", b"two"]
    manifest = listed(source(object_server, f"s3://{bucket}/list.csv"))
    assert manifest["place"].to_pylist() == ["here", "there", "up"]
    assert [read() for read in plan_fetches(manifest, reach)] == [b"x", b"y", b"x"]
    with pytest.raises(SourceError, match="cannot be read: the object does not exist"):
        source(object_server, f"s3://{bucket}/gone.csv")
