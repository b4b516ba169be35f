"""Pictures are drawn on a real cluster where there is one and it is worth it, and here otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from cvbatch.engine.cluster_tasks import ClusterTasks
from cvbatch.errors import UsageError
from cvbatch.report import drawing_place
from cvbatch.report.drawing import DrawnImage
from cvbatch.report.drawing_place import draw_where_best
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.report.runs import SmallRun, photo_folder, small_run
from tests.rigs.objects import ObjectServer

NAMES = [f"{row:02d}.jpg".encode() for row in range(12)]


@pytest.fixture
def run(tmp_path: Path) -> SmallRun:
    return small_run(tmp_path, NAMES)


@pytest.fixture
def head(ray_head: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A running cluster of one machine that `RAY_ADDRESS` names."""
    ray.shutdown()  # other tests of this process may have attached it
    monkeypatch.setenv("RAY_ADDRESS", ray_head)
    yield
    assert not ray.is_initialized(), "a report detaches"


@pytest.fixture
def only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process does not draw."""
    monkeypatch.setattr(drawing_place, "draw_images", _refuse)


def _refuse(*_: Any) -> Iterator[DrawnImage]:
    raise AssertionError("drawn by this process")


def draw(run: SmallRun, cluster: bool | None, rows: int = 12) -> dict[int, DrawnImage]:
    hashes = dict(enumerate(run.hashes[:rows]))
    return {image.row_id: image for image in draw_where_best(run.opened, hashes, 20_000, cluster)}


@pytest.mark.usefixtures("head")
def test_a_cluster_draws_the_same_pictures(run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = draw(run, cluster=False)
    assert len(expected) == 12
    monkeypatch.setattr(drawing_place, "draw_images", _refuse)
    assert draw(run, cluster=True) == expected
    monkeypatch.setattr(drawing_place, "MANY", 12)
    assert draw(run, cluster=None) == expected


@pytest.mark.usefixtures("only_there")
def test_few_pictures_and_no_cluster_are_drawn_here(run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # nobody answers there
    with pytest.raises(AssertionError, match="drawn by this process"):
        draw(run, cluster=None)
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr(drawing_place, "MANY", 1)
    with pytest.raises(AssertionError, match="drawn by this process"):
        draw(run, cluster=None)


def test_a_cluster_that_does_not_see_the_disk(run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    monkeypatch.setattr(drawing_place, "MANY", 1)
    monkeypatch.setattr(drawing_place, "attach_to_cluster", lambda _: contextlib.nullcontext(ClusterTasks(4, 3)))
    assert len(draw(run, cluster=None)) == 12
    with pytest.raises(UsageError, match="is a path on a disk, and the cluster has 3 machines: leave out --cluster"):
        draw(run, cluster=True)


@pytest.mark.usefixtures("head")
def test_pictures_that_the_cluster_may_not_read_are_drawn_here(tmp_path: Path, as_job: ObjectServer) -> None:
    """Its workers do not have the credentials of this process."""
    photos = Path(photo_folder(tmp_path, NAMES))
    images, out = as_job.make_bucket("images"), as_job.make_bucket("out")
    as_job.put(images, {path.name: path.read_bytes() for path in photos.iterdir()})
    source = {"uri": f"s3://{images}/", "endpoint_url": as_job.endpoint}
    run = small_run(
        tmp_path, NAMES, source=source, place=Location(f"s3://{out}", StorageOptions(endpoint_url=as_job.endpoint))
    )
    drawn = draw(run, cluster=True)
    assert len(drawn) == 12
    assert all(image.data for image in drawn.values())
