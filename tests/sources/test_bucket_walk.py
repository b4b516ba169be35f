"""A walk over a prefix is complete, in one order, and can be resumed at any position."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cvbatch.errors import UnavailableError
from cvbatch.sources.bucket_walk import WalkPosition, WalkStep, walk_bucket
from cvbatch.storage.location import Location
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
def place(as_job: ObjectServer, images: str, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.setenv("CVBATCH_LISTING_PAGE_KEYS", "2")
    return Location.from_uri(f"s3://{images}", StorageOptions(endpoint_url=as_job.endpoint))


def keys(steps: Iterator[WalkStep]) -> list[str]:
    return [key for step in steps for key in step.objects["key"].to_pylist()]


def again(position: WalkPosition) -> WalkPosition:
    """The position after a round trip through JSON, as in another process."""
    return WalkPosition.from_json(json.loads(json.dumps(position.to_json())))


@pytest.mark.parametrize("ahead", [64, 1, 0])
def test_objects_first_and_then_each_folder(place: Location, ahead: int) -> None:
    result = keys(walk_bucket(place, WalkPosition("top/"), folders_ahead=ahead))
    assert sorted(result) == sorted(KEYS)
    assert sorted(result[: len(TOP)]) == sorted(f"top/{key}" for key in TOP)
    folders = [key.split("/")[1] for key in result[len(TOP) :]]
    assert folders == sorted(folders, key=folders.index), "one folder after the other"


def test_it_resumes_after_every_object(place: Location) -> None:
    whole = keys(walk_bucket(place, WalkPosition("top/")))
    index = 0
    for step in walk_bucket(place, WalkPosition("top/")):
        for key in step.objects["key"].to_pylist():
            index += 1
            assert keys(walk_bucket(place, again(replace(step.within, after=key)))) == whole[index:], key
        assert keys(walk_bucket(place, again(step.behind))) == whole[index:]
    assert index == len(KEYS)


def test_new_objects_during_a_walk_hide_no_others(place: Location, object_server: ObjectServer, images: str) -> None:
    object_server.put(images, dict.fromkeys((f"grown/{key}" for key in (*TOP, *BELOW)), b"1"))
    whole = keys(walk_bucket(place, WalkPosition("grown/")))
    assert len(whole) == len(KEYS)
    steps = [(len(step.objects), again(step.behind)) for step in walk_bucket(place, WalkPosition("grown/"))]
    more = ["grown/!.x", "grown/!/1", "grown/a/0", "grown/zz/1"]
    object_server.put(images, dict.fromkeys(more, b"1"))
    index = 0
    for rows, behind in steps:
        index += rows
        assert [key for key in keys(walk_bucket(place, behind)) if key not in more] == whole[index:]


def test_a_lone_folder_is_entered(place: Location) -> None:
    steps = list(walk_bucket(place, WalkPosition("deep/")))
    assert keys(iter(steps)) == ["deep/er/still/1", "deep/er/still/2/3"]
    assert keys(walk_bucket(place, again(steps[0].behind))) == ["deep/er/still/2/3"]


def test_a_single_object(place: Location) -> None:
    (step,) = walk_bucket(place, WalkPosition("other"))
    assert step.objects["key"].to_pylist() == ["other"]
    assert keys(walk_bucket(place, again(step.behind))) == []


def test_an_error_ends_the_walk(place: Location, faults: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_STORAGE_PAUSE", "0.001")
    away = replace(place, options=StorageOptions(endpoint_url=faults.endpoint))
    with faults.doing(Fault("status", path="prefix=top%2Fa%2F", times=99)):
        steps = walk_bucket(away, WalkPosition("top/"))
        with pytest.raises(UnavailableError, match="503 SlowDown after all tries"):
            keys(steps)


def test_few_folders_are_listed_ahead(place: Location, faults: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CVBATCH_LISTING_PAGE_KEYS")
    away = replace(place, options=StorageOptions(endpoint_url=faults.endpoint))
    with faults.doing() as requests:
        steps = walk_bucket(away, WalkPosition("top/"), folders_ahead=1)
        next(steps), next(steps)
        assert [item.path.partition("prefix=")[2].partition("&")[0] for item in requests] == ["top%2F", "top%2FZ%2F"]
        steps.close()  # type: ignore[attr-defined]  # it is a generator
