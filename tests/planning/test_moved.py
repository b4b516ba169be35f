"""A source that has moved is gone on with at its new place."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.dataset as pads
import pytest

from cvbatch.errors import OutputError, SourceError
from cvbatch.output.log_records import RunState
from cvbatch.planning.moved import current_job
from cvbatch.planning.parts import read_plan_part
from cvbatch.planning.plan import all_plan_parts, load_plan
from cvbatch.results import predictions
from cvbatch.storage.buckets import open_bucket
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.rigs.objects import ObjectServer
from tests.samples import job, photos
from tests.test_pipeline import ROWS, Output, interrupt


class Moving(Output):
    """Its source may be anything."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder

    def go(
        self, source: Any, *moved_from: Any, refresh: bool = False, limit: int | None = None, **facts: Any
    ) -> RunState:
        uri = list(map(str, source)) if isinstance(source, list) else str(source)
        asked = job(self.folder, self.store.root, source={"uri": uri, "limit": limit, **facts})
        return self.run(asked, refresh=refresh, moved_from=[str(each) for each in moved_from])

    def uris(self, **how: Any) -> list[str]:
        return [str(uri) for uri in predictions.read(self.store.root, **how)["image_uri"]]

    def planned(self) -> list[str]:
        """Where each image is read, by the newest facts."""
        plan = load_plan(self.store)
        assert plan is not None
        found: dict[int, str] = {}
        for part in reversed(all_plan_parts(plan, self.log.state)):
            table = read_plan_part(self.store, part)
            assert "_moved_from" not in table.column_names
            found |= dict(zip(table["row_id"].to_pylist(), table["image_uri"].to_pylist(), strict=True))
        return [found[row] for row in sorted(found)]


@pytest.fixture
def output(tmp_path: Path) -> Moving:
    return Moving(tmp_path)


def below(folder: Path, count: int = ROWS) -> list[str]:
    return [str(folder / f"{index:04d}.jpg") for index in range(count)]


def test_a_finished_run(output: Moving) -> None:
    old, new = output.source, output.folder / "new" / "place"
    output.go(old)
    shutil.move(old, new)
    with pytest.raises(OutputError, match=rf"source.uri is .* add --moved-from {old} if these are the same images"):
        output.go(new)
    state = output.go(new, old)
    assert (state.is_final, output.proven) == (True, True)
    assert output.labelled_by(1) == [*range(ROWS)], "nothing is computed anew"
    assert output.uris() == output.planned() == below(new)
    assert output.uris(columns=["image_uri"], filter=pads.field("row_id") == 3) == [below(new)[3]]
    assert output.uris(filter=pads.field("image_uri") == below(new)[3]) == [below(new)[3]]
    assert output.uris(columns=["image_uri"], filter=pads.field("image_uri") == below(old)[3]) == []
    plain = predictions.open_dataset(output.store.root).to_table()["image_uri"].to_pylist()
    assert sorted(plain) == below(old), "files stay as they are"
    epoch = state.epoch
    assert output.go(new).epoch == output.go(new, old).epoch == epoch, "it is known by now, and nothing is left to do"
    with pytest.raises(OutputError, match=f"source.uri is .*{new}.* in the run"):
        output.go(old)


def test_an_unfinished_run_continues_after_a_move(output: Moving) -> None:
    old, new = output.source, output.folder / "new"
    output.next = {"after_unit": interrupt}
    with pytest.raises(KeyboardInterrupt):
        output.go(old)
    done = len(output.labelled_by(1))
    assert 0 < done < ROWS
    shutil.move(old, new)
    output.next = {"after_unit": interrupt}
    with pytest.raises(KeyboardInterrupt):
        output.go(new, old)
    assert output.uris() == below(new)[: len(output.uris())]
    output.go(new, f"{old}/")
    assert output.proven
    assert output.labelled_by(1) == [*range(done)]
    assert output.uris() == below(new)


def test_moved_twice_and_back(output: Moving) -> None:
    first, second = output.source, output.source / "below" / "it"
    output.go(first, limit=4)
    shutil.copytree(first, second)
    output.go(second, first, limit=8)
    third = output.folder / "third"
    shutil.move(second, third)
    output.go(third, second, limit=12)
    assert output.uris() == below(third, 12)
    shutil.rmtree(first)
    shutil.move(third, first)
    output.go(first, third)
    assert output.uris() == output.planned() == below(first)
    assert output.proven
    assert [output.labelled_by(epoch)[0] for epoch in (1, 2, 3, 4)] == [0, 4, 8, 12]


def test_later_attempts_read_the_new_location(output: Moving) -> None:
    old, new = output.source, output.folder / "new"
    output.next = {"failed": {3}}
    output.go(old)
    shutil.move(old, new)
    output.go(new, old)
    assert output.retry("all").errors.total() == 0
    assert output.labelled_by(3) == [3]
    photos(new, ROWS + 1)
    (new / "0005.jpg").unlink()
    output.go(new, refresh=True)
    assert output.uris() == below(new, ROWS + 1)
    assert predictions.read(output.store.root)["source_removed"].tolist().index(True) == 5
    assert output.proven


def test_a_move_with_an_update(output: Moving) -> None:
    """What is new at the new place is added; what is not there any more is no move."""
    old, new = output.source, output.folder / "new"
    output.go(old)
    shutil.move(old, new)
    photos(new, ROWS + 1)
    (new / "0005.jpg").rename(output.folder / "aside")
    with pytest.raises(SourceError, match=r"there is no match for .*0005.jpg"):
        output.go(new, old, refresh=True)
    (output.folder / "aside").rename(new / "0005.jpg")
    output.go(new, old, refresh=True)
    assert output.uris() == below(new, ROWS + 1)
    assert output.labelled_by(1) == [*range(ROWS)], "another time of a file alone is no change"
    assert output.proven


def test_other_images_are_refused_before_anything_is_started(output: Moving) -> None:
    old, new = output.source, output.folder / "new"
    output.go(old)
    log = len(output.store.list_sizes("_cvbatch/log"))
    shutil.copytree(old, new)
    (new / "0002.jpg").write_bytes(b"of another size")
    os.rename(new / "0007.jpg", new / "renamed.jpg")
    message = r"0002.jpg has 15 bytes, expected 2; there is no match for .*photos/0007.jpg; expected the same images"
    with pytest.raises(SourceError, match=message):
        output.go(new, old)
    for path in new.iterdir():
        path.rename(new / f"x{path.name}")
    with pytest.raises(SourceError, match=r"0000.jpg; there is no match .* and 17 more; expected the same images"):
        output.go(new, old)
    assert len(output.store.list_sizes("_cvbatch/log")) == log
    assert len(output.engines) == 1


def test_values_of_moved_from(output: Moving) -> None:
    old, new = output.source, output.folder / "new"
    with pytest.raises(OutputError, match="holds no run that could have moved"):
        output.go(old, new)
    output.go(old)
    shutil.copytree(old, new)
    with pytest.raises(
        SourceError, match=f"--moved-from /else/where: this run never had this source; its images are at {old}"
    ):
        output.go(new, "/else/where")
    with pytest.raises(SourceError, match="the job still names this location"):
        output.go(old, old)
    asked = job(new, output.store.root, models=[{"model": "python:m:f", "top_k": 2}])
    with pytest.raises(OutputError, match=r"models.0.top_k is 5 in the run, 2 in the job; choose another output$"):
        output.run(asked, moved_from=[str(old)])


@pytest.mark.parametrize("kind", ["glob", "file", "tar", "tars"])
def test_kinds_of_sources(output: Moving, kind: str) -> None:
    old, new = output.source, output.folder / "new place"
    for folder in (old, new):
        photos(folder, 4)
        with tarfile.open(folder / "shard.tar", "w") as archive:
            archive.add(folder / "0001.jpg", "0001.jpg")
            archive.add(folder / "0002.jpg", "a/0002.jpg")
    inside = ["0001.jpg", "a/0002.jpg"]
    name, members = {
        "glob": ("000[12].jpg", [f"000{at}.jpg" for at in (1, 2)]),
        "file": ("0003.jpg", ["0003.jpg"]),
        "tar": ("shard.tar", [f"shard.tar#{member}" for member in inside]),
        "tars": ("*.tar", [f"shard.tar#{member}" for member in inside]),
    }[kind]
    output.go(old / name)
    shutil.rmtree(old)
    output.go(new / name, old / name)
    assert output.uris() == output.planned() == [str(new / member) for member in members]
    assert output.proven


def manifest(path: Path, uris: Sequence[str], note: str = "n") -> Path:
    path.write_text("uri,note\n" + "".join(f"{uri},{note}\n" for uri in uris))
    return path


@pytest.mark.parametrize("rewritten", ["relative", "absolute", "elsewhere"])
def test_manifests(output: Moving, rewritten: str) -> None:
    old, new, third = output.source, output.folder / "new", photos(output.folder / "third", 4)
    names = below(Path(), 4)
    lines = {
        "relative": (names, names),
        "absolute": (below(old, 4), below(new, 4)),
        "elsewhere": (below(third, 4), below(third, 4)),
    }[rewritten]
    output.go(manifest(old / "m.csv", lines[0]))
    shutil.move(old, new)
    output.go(manifest(new / "m.csv", lines[1]), old / "m.csv")
    assert output.uris() == output.planned() == below(third if rewritten == "elsewhere" else new, 4)
    assert output.proven


def test_another_manifest_is_refused(output: Moving) -> None:
    old, new = output.source, output.folder / "new"
    output.go(manifest(old / "m.csv", below(Path(), 4)))
    shutil.copytree(old, new)
    for uris, note, message in [
        (below(Path(), 4)[::-1], "n", "new/0003.jpg is in the place of .*photos/0000.jpg"),
        (below(Path(), 3), "n", "there is no match for .*photos/0003.jpg"),
        (below(Path(), 4), "other", "the line of .*0000.jpg has other columns"),
        (below(old, 3) + below(Path("gone"), 4)[3:], "n", "gone/0003.jpg"),
    ]:
        with pytest.raises(SourceError, match=message):
            output.go(manifest(new / "m.csv", uris, note), old / "m.csv")
    (new / "0002.jpg").unlink()
    with pytest.raises(SourceError, match=r"new/0002.jpg is missing"):
        output.go(manifest(new / "m.csv", below(Path(), 4)), old / "m.csv")


def test_advice_where_nothing_has_moved(output: Moving) -> None:
    a, b = photos(output.folder / "a", 3), photos(output.folder / "b", 4)
    output.go([a, b])
    with pytest.raises(OutputError, match=rf"or name the sources in their order: {a}, {b}$"):
        output.go([b, a])
    with pytest.raises(OutputError, match=r"choose another output$"):
        output.go([a, b, photos(output.folder / "c", 1)])


def test_one_or_all_of_several_sources_move(output: Moving) -> None:
    a, b = photos(output.folder / "a", 3), photos(output.folder / "b", 4)
    output.go([a, b])
    c, d = output.folder / "c", output.folder / "d"
    shutil.move(b, c)
    with pytest.raises(OutputError, match=rf"or add --moved-from {b} if these are the same images"):
        output.go([a, c])
    output.go([a, c], b)
    assert output.uris() == below(a, 3) + below(c, 4)
    shutil.move(a, b)
    shutil.move(c, d)
    with pytest.raises(OutputError, match=r"source.uri.1 is"):
        output.go([b, d], a)
    output.go([b, d], a, c)
    assert output.uris() == output.planned() == below(b, 3) + below(d, 4)
    assert output.proven


def test_two_sources_swap_locations(output: Moving) -> None:
    a, b, aside = photos(output.folder / "a", 3), photos(output.folder / "b", 4), output.folder / "aside"
    output.go([a, b])
    for old, new in ((a, aside), (b, a), (aside, b)):
        shutil.move(old, new)
    output.go([b, a], a, b)
    assert output.uris() == output.planned() == below(b, 3) + below(a, 4)
    assert output.proven


def test_a_retry_reads_the_new_location(output: Moving) -> None:
    old, new = output.source, output.folder / "new"
    output.go(old)
    shutil.move(old, new)
    state = output.go(new, old, http_hosts=["example.org"])
    plan = load_plan(output.store)
    assert plan is not None
    now = current_job(plan, state)
    assert (now.source.uri, now.source.http_hosts) == (str(new), ("example.org",))


def test_move_from_a_disk_to_a_bucket_and_back(output: Moving, out: str, as_job: ObjectServer) -> None:
    old, uri = output.source, f"s3://{out}/{output.folder.name}/moved"
    bucket = open_bucket(Location.from_uri(uri, StorageOptions(endpoint_url=as_job.endpoint)))
    for path in old.iterdir():
        bucket.put_object(f"{output.folder.name}/moved/{path.name}", path.read_bytes())
    output.go(old)
    output.go(f"{uri}/", old, endpoint_url=as_job.endpoint)
    assert output.uris() == [f"{uri}/{index:04d}.jpg" for index in range(ROWS)]
    plan = load_plan(output.store)
    assert plan is not None
    assert current_job(plan, output.log.state).source.endpoint_url == as_job.endpoint
    output.go(old, uri)
    assert output.uris() == output.planned() == below(old)
    assert output.labelled_by(1) == [*range(ROWS)]
    assert output.proven
