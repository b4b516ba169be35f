"""Buckets through a proxy that injects faults: requests that are repeated, fail, or have an unknown outcome."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cvbatch.errors import AmbiguousError, DeniedError, OutputError, UnavailableError
from cvbatch.storage.buckets import Bucket, open_bucket
from cvbatch.storage.capabilities import can_delete_objects, check_exclusive_create
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.rigs.faults import Fault, FaultProxy
from tests.rigs.objects import ObjectServer

LARGE = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def shared(object_server: ObjectServer, _proxy: FaultProxy) -> Iterator[Bucket]:
    """A bucket behind the proxy; it fails after four tries, and closes a stalled connection after a second."""
    name = object_server.make_bucket()
    object_server.put(name, {"large": LARGE, "odd\n": LARGE})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVBATCH_STORAGE_READ_TIMEOUT", "1")
        patch.setenv("CVBATCH_STORAGE_TRIES", "4")
        patch.setenv("CVBATCH_STORAGE_PAUSE", "0.01")
        for variable, value in object_server.job.environment.items():
            patch.setenv(variable, value)
        yield Bucket(
            Location.from_uri(f"s3://{name}", StorageOptions(endpoint_url=_proxy.endpoint)), part_bytes=5 << 20
        )


@pytest.fixture
def bucket(shared: Bucket, faults: FaultProxy) -> Iterator[Bucket]:
    yield shared
    with faults.doing():
        for name in ("a", "up", "proof"):
            shared.delete_object(name)


def methods(faults: FaultProxy) -> list[str]:
    return [request.method for request in faults.requests]


PASSING = {
    "throttled": Fault("status", status=503, times=3),
    "too many requests": Fault("status", status=429, times=3),
    "server error": Fault("status", status=500, times=3),
    "no connection": Fault("unsent", times=3),
    "no answer": Fault("lost", times=3),
    "broken body": Fault("reset", after=100_000, times=3),
    "stalled body": Fault("stall", after=100_000, times=1),
    "slow body": Fault("slow", rate=3e6, times=1),
}
READS: dict[str, Callable[[Bucket], bytes]] = {
    "get": lambda bucket: bucket.get_object("large").data,
    "range": lambda bucket: bucket.get_range("large", 0, len(LARGE)),
    "odd key": lambda bucket: bucket.get_range("odd\n", 0, len(LARGE)),
}


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("read", READS)
def test_reading_continues_after_transient_faults(bucket: Bucket, faults: FaultProxy, read: str, fault: str) -> None:
    with faults.doing(Fault(**vars(PASSING[fault]))):
        assert READS[read](bucket) == LARGE
        assert {request.fault for request in faults.requests} == {PASSING[fault].kind, None} - (
            {None} if fault == "slow body" else set()
        )


def test_a_connection_that_breaks_repeatedly(bucket: Bucket, faults: FaultProxy) -> None:
    """Each received part is kept, and cvbatch retries more often than the client."""
    with faults.doing(Fault("reset", after=100_000, times=9)):
        assert bucket.get_object("large").data == LARGE
        assert len(faults.requests) == 10


LASTING = {
    "throttled": (Fault("status", status=503, times=99), "503 SlowDown after all tries"),
    "no connection": (Fault("unsent", times=99), "no response after all tries"),
    "broken body": (Fault("reset", after=1_000, times=99), "no response after all tries"),
}


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize("read", READS)
def test_permanent_faults_end_the_retries(bucket: Bucket, faults: FaultProxy, read: str, fault: str) -> None:
    harm, words = LASTING[fault]
    with faults.doing(Fault(**vars(harm))), pytest.raises(UnavailableError, match=words) as given_up:
        READS[read](bucket)
    assert bucket.uri in str(given_up.value)
    assert not {"<", "\n"} & set(str(given_up.value))
    assert READS[read](bucket) == LARGE


@pytest.mark.parametrize("kind", ["status", "unsent", "lost", "reset", "stall"])
def test_listings_continue_after_transient_faults(bucket: Bucket, faults: FaultProxy, kind: str) -> None:
    with faults.doing(Fault(kind, after=200, times=1)):  # type: ignore[arg-type] # a kind
        assert [key for page in bucket.list_objects("") for key in page.objects["key"].to_pylist()] == [
            "large",
            "odd\n",
        ]
    with faults.doing(Fault("status", times=99)), pytest.raises(UnavailableError, match="503 SlowDown"):
        list(bucket.list_objects(""))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<ListBucketResult><Contents><Key>a</Key>", "an empty or broken page"),
        (b"", "an empty or broken page"),
        (b"<Error><Code>InternalError</Code></Error>", "the service answered InternalError after all tries"),
    ],
)
def test_a_broken_page_is_refused(bucket: Bucket, faults: FaultProxy, body: bytes, words: str) -> None:
    with faults.doing(Fault("answer", body=body, times=3)):
        assert [key for page in bucket.list_objects("") for key in page.objects["key"].to_pylist()] == [
            "large",
            "odd\n",
        ]
    with faults.doing(Fault("answer", body=body, times=99)), pytest.raises(UnavailableError, match=words):
        list(bucket.list_objects(""))


def test_a_missing_field_is_null_for_that_object_only(bucket: Bucket, faults: FaultProxy) -> None:
    facts = ("<ETag>&#34;1&#34;</ETag>", "", "<ETag>&#34;3&#34;</ETag><Owner><ID>me</ID></Owner>")
    entries = "".join(
        f"<Contents><Key>{index}</Key><Size>{index}</Size>{fact}</Contents>" for index, fact in enumerate(facts)
    )
    body = f"<ListBucketResult>{entries}<CommonPrefixes><Prefix>x/</Prefix></CommonPrefixes></ListBucketResult>"
    with faults.doing(Fault("answer", body=body.encode())):
        (page,) = bucket.list_objects("")
    assert page.objects["etag"].to_pylist() == ['"1"', None, '"3"']
    assert page.objects["size"].to_pylist() == [0, 1, 2]
    assert (page.folders, page.last_key) == (["x/"], True)


def test_folder_markers_and_double_slashes_are_listed_unchanged(bucket: Bucket, faults: FaultProxy) -> None:
    """The test server cannot store such keys, but Amazon can."""
    keys = ["/lead", "dir/", "x//y", "./z", "q/../r"]
    entries = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
    body = f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{entries}</ListBucketResult>'
    with faults.doing(Fault("answer", body=body.encode())):
        (page,) = bucket.list_objects("")
    batch = page.objects
    assert batch["key"].to_pylist() == keys
    assert batch["etag"].null_count == batch["last_modified"].null_count == 5
    with faults.doing(Fault("answer", body=b"1", times=9)):
        for key in keys:
            assert bucket.get_range(key, 0, 1) == b"1"
        assert [request.path.partition(f"{bucket.uri[5:]}/")[2] for request in faults.requests] == keys


@pytest.mark.parametrize("kind", ["status", "unsent", "lost"])
def test_puts_are_repeated(bucket: Bucket, faults: FaultProxy, kind: str) -> None:
    with faults.doing(Fault(kind, times=3)):  # type: ignore[arg-type] # a kind
        bucket.put_object("a", b"1")
        assert methods(faults) == ["PUT"] * 4
    assert bucket.get_object("a").data == b"1"


@pytest.mark.parametrize(
    ("fault", "there"),
    [
        (Fault("status", status=503), False),
        (Fault("status", status=500), False),
        (Fault("unsent"), False),
        (Fault("lost"), True),
        (Fault("stall", after=-1), True),
    ],
)
def test_a_create_without_a_response_is_neither_repeated_nor_guessed(
    bucket: Bucket, faults: FaultProxy, fault: Fault, there: bool
) -> None:
    with faults.doing(Fault(**vars(fault))):
        with pytest.raises(AmbiguousError):
            bucket.create_object("a", b"1")
        assert methods(faults) == ["PUT"]
        assert bucket.create_object("a", b"2") == (not there)


def test_a_create_that_conflicts_with_another_is_ambiguous(bucket: Bucket, faults: FaultProxy) -> None:
    """Amazon returns this if a conditional request conflicts with a change of the same key; possibly none succeeded."""
    with (
        faults.doing(Fault("status", status=409)),
        pytest.raises(AmbiguousError, match="another request"),
    ):
        bucket.create_object("a", b"1")
    assert bucket.create_object("a", b"1")


def test_a_create_that_takes_effect_late(bucket: Bucket, faults: FaultProxy) -> None:
    with faults.doing(Fault("late", seconds=0.5)), pytest.raises(AmbiguousError):
        bucket.create_object("a", b"1")
    assert bucket.create_object("a", b"2")
    assert bucket.get_object("a").data == b"2"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("lost", method="PUT"),
        Fault("status", method="PUT"),
        Fault("lost", method="POST", path="uploads"),
        Fault("lost", method="POST", path="uploadId="),
        Fault("status", method="POST", path="uploadId=", times=2),
        Fault("status", status=404, method="POST", path="uploadId="),
    ],
)
def test_large_uploads_survive(bucket: Bucket, faults: FaultProxy, tmp_path: Path, fault: Fault) -> None:
    data = os.urandom(11 << 20)
    (tmp_path / "file").write_bytes(data)
    with faults.doing(Fault(**vars(fault))):
        bucket.upload_file("up", str(tmp_path / "file"))
    assert bucket.get_object("up").data == data


def test_a_job_without_the_right_to_delete(bucket: Bucket, faults: FaultProxy) -> None:
    with faults.doing(Fault("status", status=403, method="DELETE", times=99)):
        with pytest.raises(DeniedError, match="403 AccessDenied"):
            bucket.delete_object("large")
        assert not can_delete_objects(bucket, "x/")
        check_exclusive_create(bucket, "proof")
    assert can_delete_objects(bucket, "x/")
    assert bucket.head_object("large").size == len(LARGE)


def test_a_request_with_a_broken_error_response_is_repeated(bucket: Bucket, faults: FaultProxy) -> None:
    with faults.doing(Fault("reset", after=20, times=2)):
        with pytest.raises(FileNotFoundError):
            bucket.get_object("nothing")
        assert methods(faults) == ["GET"] * 3


def test_no_rights_at_all(bucket: Bucket, faults: FaultProxy) -> None:
    with faults.doing(Fault("status", status=403, times=99)):
        for ask in (
            lambda: bucket.get_object("large"),
            lambda: bucket.head_object("large"),
            lambda: list(bucket.list_objects("")),
        ):
            with pytest.raises(DeniedError, match="check the credentials"):
                ask()
        assert len(faults.requests) == 3, "asking again is of no use"


def test_a_service_that_ignores_the_condition_is_refused(bucket: Bucket, faults: FaultProxy) -> None:
    with faults.doing(Fault("answer", method="PUT", times=2)), pytest.raises(OutputError, match="ignores If-None"):
        check_exclusive_create(bucket, "proof")


def test_a_port_without_a_server(as_job: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_STORAGE_TRIES", "2")
    bucket = open_bucket(Location.from_uri("s3://out-none", StorageOptions(endpoint_url="http://127.0.0.1:9")))
    with pytest.raises(UnavailableError, match="s3://out-none/a: no response after all tries: check endpoint_url"):
        bucket.get_object("a")
    with pytest.raises(AmbiguousError):
        bucket.create_object("a", b"")


def test_a_signal_interrupts_a_request(bucket: Bucket, faults: FaultProxy) -> None:
    class Heard(Exception):
        pass

    def hear(*_: object) -> None:
        raise Heard

    before = signal.signal(signal.SIGUSR1, hear)
    try:
        with faults.doing(Fault("stall", after=10, times=99)):
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            with pytest.raises(Heard):
                bucket.get_object("large")
    finally:
        signal.signal(signal.SIGUSR1, before)
