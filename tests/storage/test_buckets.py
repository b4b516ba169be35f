"""Buckets, on a real server, as an identity with the rights of a job."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path

import pytest

from cvbatch.errors import DeniedError, StorageError, TooLargeError
from cvbatch.storage import listing
from cvbatch.storage.buckets import Bucket, open_bucket
from cvbatch.storage.capabilities import can_delete_objects, check_exclusive_create
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.rigs.objects import ObjectServer
from tests.rigs.racing import winners

ODD = (
    "a b",
    "a%20b",
    "a+b",
    "ü/é",
    "a#b?c=d&e",
    "star*[1]{2}",
    "quote\"'<>&",
    "emoji😀",
    "100%",
    "nl\nx",
    "tab\tx",
    "\x7f",
)


@pytest.fixture
def bucket(as_job: ObjectServer, out: str) -> Bucket:
    return opened(as_job, out)


def opened(server: ObjectServer, name: str) -> Bucket:
    return open_bucket(Location.from_uri(f"s3://{name}", StorageOptions(endpoint_url=server.endpoint)))


def test_an_object_is_read_as_written(bucket: Bucket) -> None:
    bucket.put_object("a/b", b"long content")
    bucket.put_object("a/b", b"12345")
    got = bucket.get_object("a/b")
    assert got.data == b"12345"
    assert bucket.get_range("a/b", 1, 3) == b"234"
    assert bucket.get_range("a/b", 3, 100) == b"45"
    head = bucket.head_object("a/b")
    assert (head.size, head.etag) == (5, got.etag)
    (page,) = bucket.list_objects("")
    assert page.objects.schema == listing.SCHEMA
    assert page.objects.to_pylist() == [
        {"key": "a/b", "size": 5, "etag": got.etag, "last_modified": head.last_modified}
    ]


def test_an_object_says_what_it_is_to_a_browser(as_job: ObjectServer, bucket: Bucket, out: str) -> None:
    """The server guesses it from the name, so this one has no suffix."""
    bucket.put_object("page", b"<!doctype html>", "text/html; charset=utf-8")
    with contextlib.closing(as_job.client()) as client:
        assert client.head_object(Bucket=out, Key="page")["ContentType"] == "text/html; charset=utf-8"


def test_a_too_large_object_is_not_read(bucket: Bucket) -> None:
    bucket.put_object("a", b"12345")
    assert bucket.get_object("a", 5).data == b"12345"
    with pytest.raises(TooLargeError, match="expected at most 4 bytes, got 5"):
        bucket.get_object("a", 4)


def test_a_missing_object(bucket: Bucket) -> None:
    with pytest.raises(FileNotFoundError, match=f"{bucket.uri}/a"):
        bucket.get_object("a")
    with pytest.raises(FileNotFoundError):
        bucket.head_object("a")
    with pytest.raises(FileNotFoundError):
        bucket.open_object("a")
    with pytest.raises(FileNotFoundError):
        bucket.get_object("odd//a")
    bucket.delete_object("a")
    (page,) = bucket.list_objects("a")
    assert (page.objects.num_rows, page.folders, page.last_key) == (0, [], True)


def test_one_of_many_concurrent_creations_succeeds(bucket: Bucket) -> None:
    won = winners(lambda data: bucket.create_object("one", data))
    assert [bucket.get_object("one").data] == won


@pytest.mark.parametrize("size", [0, 5, (16 << 20) + 1])
def test_uploads(bucket: Bucket, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    bucket.upload_file("up", str(tmp_path / "file"))
    assert bucket.get_object("up").data == data


@pytest.mark.parametrize("way", ["open_object", "stream_object"])
@pytest.mark.parametrize("size", [1_000, 20_000_000])  # read whole, and in several ranges
def test_an_object_as_a_file(bucket: Bucket, way: str, size: int) -> None:
    data = os.urandom(size)
    bucket.put_object("a", data)
    with getattr(bucket, way)("a") as file:
        assert file.seek(-10, os.SEEK_END) == size - 10
        assert file.read() == data[-10:]
        assert file.read() == b""
        file.seek(100)
        assert file.read(700) == data[100:800]
        file.seek(-50, os.SEEK_CUR)
        assert file.tell() == 750
        assert file.read() == data[750:]


def test_an_object_that_changes_while_it_is_read(bucket: Bucket) -> None:
    bucket.put_object("a", b"1" * 5_000_000)
    with bucket.open_object("a") as file:
        assert file.read(1) == b"1"
        bucket.put_object("a", b"2" * 5_000_000)
        file.seek(4_000_000)
        with pytest.raises(StorageError, match="changed while it was read"):
            file.read(1)


def test_listings_start_after_a_key(as_job: ObjectServer, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_LISTING_PAGE_KEYS", "7")
    for number in range(30):
        bucket.put_object(f"x/{number:03d}", b"1")
    bucket.put_object("y", b"1")
    pages = [page.objects["key"].to_pylist() for page in bucket.list_objects("x/")]
    keys = [key for page in pages for key in page]
    assert keys == [f"x/{number:03d}" for number in range(30)]
    assert [len(page) for page in pages] == [7, 7, 7, 7, 2]
    later_keys = [
        key for page in bucket.list_objects("x/", start_after=keys[9]) for key in page.objects["key"].to_pylist()
    ]
    assert later_keys == keys[10:]


def test_one_level(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_LISTING_PAGE_KEYS", "2")
    for key in ("top", "a/1", "a/2", "a/b/3", "a/c d/4", "a-b/5", "ab/6"):
        bucket.put_object(f"level/{key}", b"1")
    assert bucket.list_level("level/a/")["key"].to_pylist() == ["level/a/1", "level/a/2"]
    assert bucket.list_level("level/a/", start_after="level/a/1")["key"].to_pylist() == ["level/a/2"]
    assert bucket.list_level("level/")["key"].to_pylist() == ["level/top"]
    pages = list(bucket.list_objects("level/", one_level=True))
    folders = [folder for page in pages for folder in page.folders]
    assert sorted(folders) == ["level/a-b/", "level/a/", "level/ab/"]
    assert [page.last_key for page in pages] == [False, True]
    later_keys = bucket.list_objects("level/a/", start_after="level/a/1", one_level=True)
    assert sorted(folder for page in later_keys for folder in page.folders) == ["level/a/b/", "level/a/c d/"]


def test_a_prefix_may_end_anywhere(bucket: Bucket) -> None:
    for key in ("ab/1", "abc", "b"):
        bucket.put_object(key, b"1")
    assert sorted(key for page in bucket.list_objects("ab") for key in page.objects["key"].to_pylist()) == [
        "ab/1",
        "abc",
    ]


def test_keys_are_listed_and_read_exactly(as_job: ObjectServer) -> None:
    name = as_job.make_bucket("images")
    as_job.put(name, {key: key.encode() for key in ODD})
    bucket = opened(as_job, name)
    assert sorted(key for page in bucket.list_objects("") for key in page.objects["key"].to_pylist()) == sorted(ODD)
    for key in ODD:
        assert bucket.get_object(key, 100).data == key.encode()
        assert bucket.get_range(key, 0, 1) == key.encode()[:1]
        assert bucket.head_object(key).size == len(key.encode())
        with bucket.open_object(key) as file:
            assert file.read() == key.encode()
    with pytest.raises(TooLargeError):
        bucket.get_object("nl\nx", 2)


def test_a_job_may_not_write_where_it_reads(as_job: ObjectServer) -> None:
    name = as_job.make_bucket("images")
    as_job.put(name, {"a": b"1"})
    bucket = opened(as_job, name)
    assert bucket.get_object("a").data == b"1"
    for write in (bucket.put_object, bucket.create_object):
        with pytest.raises(DeniedError, match=f"s3://{name}/b is denied .403 AccessDenied.: check the credentials"):
            write("b", b"1")
    with pytest.raises(DeniedError):
        bucket.delete_object("a")
    assert not can_delete_objects(bucket, "")


def test_another_bucket(as_job: ObjectServer) -> None:
    for reading in (lambda bucket: bucket.get_object("a"), lambda bucket: list(bucket.list_objects(""))):
        with pytest.raises(StorageError, match="there is no such bucket"):
            reading(opened(as_job, "images-nowhere"))


def test_wrong_credentials(as_job: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    bucket = Bucket(Location.from_uri("s3://out-any", StorageOptions(endpoint_url=as_job.endpoint)))
    for asking in (
        lambda: bucket.get_object("a"),
        lambda: list(bucket.list_objects("")),
        lambda: bucket.create_object("a", b""),
    ):
        with pytest.raises(DeniedError, match="403 SignatureDoesNotMatch") as denied:
            asking()
        assert "wrong-secret" not in str(denied.value)
        assert "<" not in str(denied.value)
        assert "\n" not in str(denied.value)


def test_the_check_of_exclusive_creation_is_repeatable(bucket: Bucket) -> None:
    for _ in range(2):
        check_exclusive_create(bucket, "out/_cvbatch/proof")
    assert can_delete_objects(bucket, "out/")
    assert [page.objects["key"].to_pylist() for page in bucket.list_objects("")] == [["out/_cvbatch/proof"]]


def test_each_process_opens_a_bucket_once(as_job: ObjectServer) -> None:
    place = Location.from_uri("s3://out-any/a", StorageOptions(endpoint_url=as_job.endpoint))
    again = pickle.loads(pickle.dumps(Location.from_uri(f"s3://{place.bucket}/b", place.options)))
    assert open_bucket(place) is open_bucket(again)
