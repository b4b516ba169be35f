"""The same on Azure, with its emulator: only the client differs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cvbatch.errors import StorageError
from cvbatch.storage.buckets import Bucket
from cvbatch.storage.capabilities import can_delete_objects, check_exclusive_create
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.rigs.azurite import PROGRAM, running_azurite

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="azurite is not installed")]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with running_azurite(tmp_path) as azurite:
        azurite.make_container("photos")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", azurite.account)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", azurite.key)
        yield Bucket(Location.from_uri("az://photos", StorageOptions(endpoint_url=azurite.endpoint)))


def test_a_container_is_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    for key in ("a/1", "a/b c/2", "ab/3", "top"):
        assert bucket.create_object(key, key.encode())
        assert not bucket.create_object(key, b"other")
        assert bucket.get_object(key).data == key.encode()
    keys = [key for page in bucket.list_objects("a") for key in page.objects["key"].to_pylist()]
    assert keys == ["a/1", "a/b c/2", "ab/3"]
    later_keys = [
        key for page in bucket.list_objects("", start_after="a/b c/2") for key in page.objects["key"].to_pylist()
    ]
    assert later_keys == ["ab/3", "top"]
    (page,) = bucket.list_objects("a/", one_level=True)
    assert (page.objects["key"].to_pylist(), page.folders) == (["a/1"], ["a/b c/"])
    assert bucket.list_level("", start_after="top").num_rows == 0
    assert bucket.head_object("top").etag == bucket.get_object("top").etag
    (tmp_path / "large").write_bytes(b"x" * (17 << 20))
    bucket.upload_file("large", str(tmp_path / "large"))
    with bucket.open_object("large") as file:
        file.seek(-1, 2)
        assert file.read() == b"x"
    bucket.delete_object("top")
    bucket.delete_object("top")
    with pytest.raises(FileNotFoundError):
        bucket.get_object("top")
    check_exclusive_create(bucket, "proof")
    assert can_delete_objects(bucket, "")
    with pytest.raises(StorageError, match="only S3 supports others"):
        bucket.get_object("a//b")
