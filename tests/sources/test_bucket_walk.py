"""A prefix of a bucket is walked once, whole and in one order, and gone on with from anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cvbatch.errors import UnavailableError
from cvbatch.sources.bucket_walk import Position, Step, walk
from cvbatch.storage.location import Place
from cvbatch.storage.options import StorageOptions
from tests.rigs.faults import Fault, FaultProxy
from tests.rigs.objects import ObjectServer

# the server's own order puts a/ before a-b/ and a.jpg, unlike Amazon's
BELOW = ("a/1", "a/2", "a/3", "a/b/1", "a/b-c/1", "a/b.x", "a-b/1", "a-b/2", "Z/1", "é/1", "é/2/3")
TOP = ("a.x", "a0.x", "é.x", "z.x", "z.y")
KEYS = [f"top/{key}" for key in (*TOP, *BELOW)]


@pytest.fixture(scope="module")
def images(object_server: ObjectServer) -> str:
    name = object_server.make_bucket("images")
    object_server.put(name, dict.fromkeys([*KEYS, "deep/er/still/1", "deep/er/still/2/3", "other"], b"1"))
    return name


@pytest.fixture
def place(as_job: ObjectServer, images: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("CVBATCH_LISTING_PAGE_KEYS", "2")
    return Place.of(f"s3://{images}", StorageOptions(endpoint_url=as_job.endpoint))


def keys(steps: Iterator[Step]) -> list[str]:
    return [key for step in steps for key in step.objects["key"].to_pylist()]


def again(position: Position) -> Position:
    """The same in another process."""
    return Position.from_json(json.loads(json.dumps(position.to_json())))


@pytest.mark.parametrize("ahead", [64, 1, 0])
def test_objects_first_and_then_each_folder(place: Place, ahead: int) -> None:
    found = keys(walk(place, Position("top/"), folders_ahead=ahead))
    assert sorted(found) == sorted(KEYS)
    assert sorted(found[: len(TOP)]) == sorted(f"top/{key}" for key in TOP)
    folders = [key.split("/")[1] for key in found[len(TOP) :]]
    assert folders == sorted(folders, key=folders.index), "one folder after the other"


def test_it_goes_on_from_behind_every_single_object(place: Place) -> None:
    whole = keys(walk(place, Position("top/")))
    at = 0
    for step in walk(place, Position("top/")):
        for key in step.objects["key"].to_pylist():
            at += 1
            assert keys(walk(place, again(replace(step.within, after=key)))) == whole[at:], key
        assert keys(walk(place, again(step.behind))) == whole[at:]
    assert at == len(KEYS)


def test_what_is_new_meanwhile_takes_nothing_away(place: Place, object_server: ObjectServer, images: str) -> None:
    object_server.put(images, dict.fromkeys((f"grown/{key}" for key in (*TOP, *BELOW)), b"1"))
    whole = keys(walk(place, Position("grown/")))
    assert len(whole) == len(KEYS)
    steps = [(len(step.objects), again(step.behind)) for step in walk(place, Position("grown/"))]
    more = ["grown/!.x", "grown/!/1", "grown/a/0", "grown/zz/1"]
    object_server.put(images, dict.fromkeys(more, b"1"))
    at = 0
    for rows, behind in steps:
        at += rows
        assert [key for key in keys(walk(place, behind)) if key not in more] == whole[at:]


def test_a_lone_folder_is_entered(place: Place) -> None:
    steps = list(walk(place, Position("deep/")))
    assert keys(iter(steps)) == ["deep/er/still/1", "deep/er/still/2/3"]
    assert keys(walk(place, again(steps[0].behind))) == ["deep/er/still/2/3"]


def test_a_single_object(place: Place) -> None:
    (step,) = walk(place, Position("other"))
    assert step.objects["key"].to_pylist() == ["other"]
    assert keys(walk(place, again(step.behind))) == []


def test_a_failure_ends_it(place: Place, faults: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_STORAGE_PAUSE", "0.001")
    away = replace(place, options=StorageOptions(endpoint_url=faults.endpoint))
    with faults.doing(Fault("status", path="prefix=top%2Fa%2F", times=99)):
        steps = walk(away, Position("top/"))
        with pytest.raises(UnavailableError, match="503 SlowDown after all tries"):
            keys(steps)


def test_no_more_than_a_few_folders_are_under_way(
    place: Place, faults: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CVBATCH_LISTING_PAGE_KEYS")
    away = replace(place, options=StorageOptions(endpoint_url=faults.endpoint))
    with faults.doing() as requests:
        steps = walk(away, Position("top/"), folders_ahead=1)
        next(steps), next(steps)
        assert [each.path.partition("prefix=")[2].partition("&")[0] for each in requests] == ["top%2F", "top%2FZ%2F"]
        steps.close()  # type: ignore[attr-defined]  # it is a generator
