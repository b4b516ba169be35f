"""A listing that was broken off is gone on with by the next start, whoever else lists at the same time."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest

from cvbatch.config.job import Job
from cvbatch.output.store import LocalStore, Store, open_store
from cvbatch.planning.parts import PARTS_FOLDER, read_plan_part
from cvbatch.planning.plan import PLAN_FILE, Plan, load_plan, make_plan
from cvbatch.schema import ROW_ID
from cvbatch.sources import open_source
from cvbatch.sources.entries import ImageSource
from tests.rigs.faults import Fault, FaultProxy
from tests.rigs.objects import ObjectServer
from tests.samples import job, spec

_MANY = 2_600
_PAGE = 50
_PLANNING = """
import sys
from cvbatch.config.job import Job
from cvbatch.planning.plan import make_plan
from cvbatch.sources import open_source
from cvbatch.output.store import open_store
from tests.samples import spec

job = Job.model_validate_json(sys.argv[1])
make_plan(open_store(job.output.location), job, [spec()], open_source(job.source))
"""


@pytest.fixture(scope="module")
def many(object_server: ObjectServer) -> str:
    """A bucket with objects at one level, in folders, and some that are no images."""
    name = object_server.make_bucket("images")
    keys = [f"all/{number:04d}.jpg" for number in range(1_200)]
    keys += [f"all/{number % 8}/{number:04d}.jpg" for number in range(_MANY - len(keys))]
    keys += [f"all/{number % 8}/{number:04d}.txt" for number in range(80)]
    client = object_server.client()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=name, Key=key, Body=b"1"), keys))
    client.close()
    return name


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pages and chunks, in this process and those that it starts."""
    monkeypatch.setenv("CVBATCH_LISTING_PAGE_KEYS", str(_PAGE))
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", str(5 * _PAGE))


def asked(endpoint: str, bucket: str, output: str, **source: Any) -> Job:
    return job(
        f"s3://{bucket}/all/",
        source={"endpoint_url": endpoint, **source},
        output={"uri": output, "endpoint_url": endpoint},
    )


def make(wanted: Job, source: ImageSource | None = None) -> Plan:
    return make_plan(open_store(wanted.output.location), wanted, [spec()], source or open_source(wanted.source))


def rows(store: Store, plan: Plan) -> pa.Table:
    return pa.concat_tables([read_plan_part(store, part) for part in plan.parts])


def listings(requests: list[Any], bucket: str) -> list[str]:
    return [each.path for each in requests if f"/{bucket}?" in each.path and "list-type=2" in each.path]


def left_over(store: Store) -> list[str]:
    return [name for name in store.list_sizes("_cvbatch") if "listing-" in name]


class BrokenOff(Exception):
    """As if the process had been killed."""


class Breaking:
    """A source whose listing breaks off after some chunks.

    Args:
        source: Of a bucket.
        after: How many chunks come before.
    """

    positional = False

    def __init__(self, source: Any, after: int) -> None:
        self._source, self._after = source, after
        self.extra_columns, self.listing = source.extra_columns, source.listing

    def iter_chunks(self) -> Iterator[pa.Table]:
        raise NotImplementedError

    def iter_marked_chunks(self, mark: Any = None) -> Iterator[tuple[pa.Table, Any]]:
        for number, pair in enumerate(self._source.iter_marked_chunks(mark)):
            if number == self._after:
                raise BrokenOff
            yield pair


def broken_off(wanted: Job, after: int) -> None:
    with pytest.raises(BrokenOff):
        make(wanted, Breaking(open_source(wanted.source), after))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kill_at", ["all%2F08", "all%2F5%2F"], ids=["top", "folders"])
def test_listing_of_a_killed_driver_is_resumed(
    as_job: ObjectServer, many: str, out: str, faults: FaultProxy, kill_at: str
) -> None:
    calm = asked(faults.endpoint, many, f"s3://{out}/calm")
    with faults.doing() as requests:
        expected = make(calm)
    full = len(listings(requests, many))
    assert expected.rows == _MANY

    wanted = asked(faults.endpoint, many, f"s3://{out}/killed")
    store = open_store(wanted.output.location)
    stall = Fault("stall", path=f"{many}.*continuation-token={kill_at}", times=99, after=-1)
    with faults.doing(stall) as requests:
        process = subprocess.Popen([sys.executable, "-c", _PLANNING, wanted.model_dump_json(by_alias=True)])
        try:
            deadline = time.monotonic() + 120
            while not (left_over(store) and any(each.fault for each in requests)) and time.monotonic() < deadline:
                assert process.poll() is None, "it should stand still"
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
    assert load_plan(store) is None
    kept = json.loads(store.read_object(left_over(store)[0]))
    done = sum(part["rows"] for part in kept["parts"])
    assert done >= 5 * _PAGE

    with faults.doing() as requests:
        plan = make(wanted)
    # what was listed needs no request any more, but for opening the source
    assert len(listings(requests, many)) <= full - done // _PAGE + 3
    assert rows(store, plan) == rows(open_store(calm.output.location), expected)
    assert (plan.rows, plan.complete, plan.skipped) == (_MANY, True, expected.skipped)
    assert plan.skipped == {".txt": 80}
    assert [part["path"] for part in plan.parts[: len(kept["parts"])]] == [part["path"] for part in kept["parts"]]
    assert left_over(store) == []
    # a part that was written when the process died, and not noted yet, is an orphan
    orphans = set(store.list_sizes(PARTS_FOLDER)) - {part["path"] for part in plan.parts}
    assert len(orphans) <= 1, "nothing was written twice"


@pytest.mark.usefixtures("small")
def test_plan_after_an_interruption_is_the_same(as_job: ObjectServer, many: str, out: str) -> None:
    wanted = asked(as_job.endpoint, many, f"s3://{out}/run")
    for after in (2, 1, 3):
        broken_off(wanted, after)
    store = open_store(wanted.output.location)
    before = len(store.list_sizes(PARTS_FOLDER))
    plan = make(wanted)
    assert rows(store, plan)[ROW_ID].to_pylist() == list(range(_MANY))
    assert len(set(rows(store, plan)["image_uri"].to_pylist())) == _MANY
    assert plan.skipped == {".txt": 80}
    assert before == 6, "each start added parts to those of the one before"


@pytest.mark.usefixtures("small")
def test_two_attempts_resume_the_same_listing(as_job: ObjectServer, many: str, out: str) -> None:
    wanted = asked(as_job.endpoint, many, f"s3://{out}/run")
    store = open_store(wanted.output.location)
    broken_off(wanted, 3)
    shared = set(store.list_sizes(PARTS_FOLDER))
    won: list[Plan] = []

    class Overtaken(Breaking):
        """While its last chunk is under way, another start comes to its end."""

        def iter_marked_chunks(self, mark: Any = None) -> Iterator[tuple[pa.Table, Any]]:
            yield from self._source.iter_marked_chunks(mark)
            won.append(make(wanted))

    late = make(wanted, Overtaken(open_source(wanted.source), 99))
    assert late == won[0]
    named = {part["path"] for part in late.parts}
    assert shared < named
    assert set(store.list_sizes(PARTS_FOLDER)) == named, "the loser has taken its own parts away, and no others"
    assert rows(store, late)[ROW_ID].to_pylist() == list(range(_MANY))
    assert left_over(store) == []


@pytest.mark.usefixtures("small")
def test_parts_are_deleted_only_after_a_plan_without_them_exists(as_job: ObjectServer, many: str, out: str) -> None:
    wanted = asked(as_job.endpoint, many, f"s3://{out}/run")
    store = open_store(wanted.output.location)
    broken_off(wanted, 3)
    there = set(store.list_sizes(PARTS_FOLDER))
    broken_off(wanted, 1)
    assert there < set(store.list_sizes(PARTS_FOLDER))
    assert PLAN_FILE not in store.list_sizes("_cvbatch")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("source", "taken_over"),
    [({"limit": 2_000}, True), ({"limit": 700}, False), ({"exclude": ["nothing"]}, False), ({"exif": True}, False)],
)
def test_only_the_same_listing_is_resumed(
    as_job: ObjectServer, many: str, out: str, source: dict[str, Any], taken_over: bool
) -> None:
    broken_off(asked(as_job.endpoint, many, f"s3://{out}/run"), 3)
    wanted = asked(as_job.endpoint, many, f"s3://{out}/run", **source)
    store = open_store(wanted.output.location)
    before = set(store.list_sizes(PARTS_FOLDER))
    plan = make(wanted)
    assert plan.rows == source.get("limit", _MANY)
    assert bool({part["path"] for part in plan.parts} & before) == taken_over
    assert rows(store, plan)[ROW_ID].to_pylist() == list(range(plan.rows))


@pytest.mark.usefixtures("small")
def test_old_or_incomplete_checkpoints_are_not_resumed(as_job: ObjectServer, many: str, out: str) -> None:
    wanted = asked(as_job.endpoint, many, f"s3://{out}/run")
    store = open_store(wanted.output.location)
    broken_off(wanted, 3)
    first = set(store.list_sizes(PARTS_FOLDER))
    (name,) = left_over(store)
    a_day = {"time": time.time() - 86_401}
    store.put_object(name, json.dumps(json.loads(store.read_object(name)) | a_day).encode())
    broken_off(wanted, 2)
    second = set(store.list_sizes(PARTS_FOLDER)) - first
    assert len(second) == 2
    store.delete_object(min(second))
    plan = make(wanted)
    assert not {part["path"] for part in plan.parts} & (first | second)
    assert plan.rows == _MANY


def test_listing_resumes_between_containers(as_job: ObjectServer, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", "4")
    bucket = as_job.make_bucket("images")
    as_job.put(bucket, {"all/a.jpg": b"1", "all/b.jpg": b"1", "all/notes.txt": b"1"})
    as_job.put(bucket, {f"all/{name}.tar": tar(3) for name in ("aa", "c", "d")} | {"all/e.jpg": b"1"})
    wanted = asked(as_job.endpoint, bucket, f"s3://{out}/calm")
    expected = rows(open_store(wanted.output.location), make(wanted))
    assert expected.num_rows == 12
    again = asked(as_job.endpoint, bucket, f"s3://{out}/run")
    store = open_store(again.output.location)
    for after in (1, 1):
        broken_off(again, after)
    plan = make(again)
    assert rows(store, plan) == expected
    assert plan.skipped == {".txt": 1}


def test_short_and_local_listings_leave_no_checkpoint(
    tmp_path: Any, as_job: ObjectServer, out: str, faults: FaultProxy
) -> None:
    bucket = as_job.make_bucket("images")
    as_job.put(bucket, {"all/a.jpg": b"1"})
    wanted = asked(faults.endpoint, bucket, f"s3://{out}/run")
    with faults.doing() as requests:
        make(wanted)
    assert [each.method for each in requests if "listing-" in each.path] == ["GET"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    local = job(tmp_path / "photos", tmp_path / "out")
    make_plan(LocalStore(str(tmp_path / "out")), local, [spec()], open_source(local.source))
    assert sorted(os.listdir(tmp_path / "out" / "_cvbatch")) == ["plan", "plan.json", "tmp"]


def tar(members: int) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for number in range(members):
            archive.addfile(tarfile.TarInfo(f"{number}.jpg"))
    return data.getvalue()
