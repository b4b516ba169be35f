"""A machine fetches an object once, completely, and in the right version."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from cvbatch.errors import CorruptionError, RunError, TooLargeError
from cvbatch.storage.download_cache import fetch_newest, fetch_version
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.rigs.faults import Fault, FaultProxy
from tests.rigs.objects import ObjectServer

CONTENT = bytes(range(256)) * (80 << 10)
"""Content that is larger than one block."""
HASH = hashlib.sha256(CONTENT).hexdigest()
_ELSEWHERE = """
import sys
from cvbatch.storage.download_cache import fetch_version
from cvbatch.storage.options import StorageOptions
from cvbatch.storage.location import Location

place = Location.from_uri(sys.argv[1], StorageOptions(endpoint_url=sys.argv[2]))
print(fetch_version(place, sys.argv[3], 32 << 20).stat().st_size)
"""


@pytest.fixture
def bucket(as_job: ObjectServer) -> str:
    name = as_job.make_bucket("images")
    as_job.put(name, {"w.pth": CONTENT})
    return name


@pytest.fixture
def place(bucket: str, faults: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Location.from_uri(f"s3://{bucket}/w.pth", StorageOptions(endpoint_url=faults.endpoint))


def test_an_object_is_fetched_once(place: Location, faults: FaultProxy) -> None:
    path, digest = fetch_newest(place, 32 << 20)
    assert (path.read_bytes(), path.suffix, digest) == (CONTENT, ".pth", HASH)
    with faults.doing() as requests:
        assert fetch_newest(place, 32 << 20) == (path, HASH)
        assert fetch_version(place, HASH, 32 << 20) == path
    assert [request.method for request in requests] == ["HEAD"], "whether it is still the newest one"
    assert path.parent.stat().st_mode & 0o077 == 0


def test_another_version_is_another_file(place: Location, bucket: str, object_server: ObjectServer) -> None:
    before, _ = fetch_newest(place, 32 << 20)
    object_server.put(bucket, {"w.pth": b"new"})
    after, digest = fetch_newest(place, 32 << 20)
    assert (after.read_bytes(), digest) == (b"new", hashlib.sha256(b"new").hexdigest())
    assert before.read_bytes() == CONTENT, "somebody may work with it"
    assert fetch_version(place, HASH, 32 << 20) == before


def test_another_machine_fetches_the_same_version(
    place: Location, bucket: str, object_server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, digest = fetch_newest(place, 32 << 20)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    second = fetch_version(place, digest, 32 << 20)
    assert second != first
    assert second.read_bytes() == CONTENT
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "third"))
    object_server.put(bucket, {"w.pth": b"new"})
    with pytest.raises(CorruptionError, match=rf"expected sha256 {HASH}, got .*it has changed since the run started"):
        fetch_version(place, digest, 32 << 20)
    assert not list((tmp_path / "third").rglob("*.pth*part")), "nothing half is left"


def test_one_of_many_processes_fetches(place: Location, faults: FaultProxy) -> None:
    command = [sys.executable, "-c", _ELSEWHERE, place.uri, faults.endpoint, HASH]
    with faults.doing() as requests:
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
        sizes = [int(process.communicate()[0]) for process in processes]
    assert sizes == [len(CONTENT)] * 4
    assert [request.method for request in requests] == ["HEAD", "GET", "GET"]


def test_an_interrupted_download_leaves_no_file(
    place: Location, faults: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults.doing(Fault("status", method="GET", status=403, times=99)), pytest.raises(RunError, match="denied"):
        fetch_newest(place, 32 << 20)
    assert fetch_newest(place, 32 << 20)[0].read_bytes() == CONTENT


def test_limits(place: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooLargeError, match="expected at most 100 bytes, got 20971520"):
        fetch_newest(place, 100)
    with pytest.raises(TooLargeError):
        fetch_version(place, HASH, 100)
    with pytest.raises(FileNotFoundError):
        fetch_newest(Location.from_uri(f"{place.uri}x", place.options), 100)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(RunError, match="cannot be written: Not a directory; set XDG_CACHE_HOME to another folder"):
        fetch_newest(place, 32 << 20)
