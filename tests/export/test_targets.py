"""An export appears once it is whole, on a disk and in a bucket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvbatch.errors import OutputError, RunError
from cvbatch.export.exporting import export_predictions
from cvbatch.export.targets import open_target
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.export.runs import BOXES, box_columns, make_run
from tests.rigs.objects import ObjectServer


def write_two_files(location: Location, *, fail: bool = False) -> None:
    with open_target(location, is_folder=True) as target:
        for name in ("data.yaml", "labels/a/1.txt"):
            with target.open_file(name) as file:
                file.write(name.encode())
        if fail:
            raise RuntimeError("stop")


def test_a_folder_appears_once_it_is_whole(tmp_path: Path) -> None:
    location = Location.from_uri(str(tmp_path / "new" / "labels"))
    with pytest.raises(RuntimeError, match="stop"):
        write_two_files(location, fail=True)
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "new" / "labels").mkdir()
    write_two_files(location)
    assert (tmp_path / "new" / "labels" / "labels" / "a" / "1.txt").read_text() == "labels/a/1.txt"
    with pytest.raises(OutputError, match="exists: expected a new folder"):
        write_two_files(location)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written: File exists"):
        write_two_files(Location.from_uri(str(tmp_path / "file" / "labels")))


@pytest.fixture
def bucket(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in object_server.admin.environment.items():
        monkeypatch.setenv(name, value)
    return object_server.make_bucket()


def test_an_export_into_a_bucket(tmp_path: Path, object_server: ObjectServer, bucket: str) -> None:
    options = {"endpoint_url": object_server.endpoint}
    output = make_run(tmp_path, (BOXES, box_columns([[(1, 0.9, (1, 2, 3, 4))]])))
    export_predictions(output, "coco", f"s3://{bucket}/exports/a.json", storage=options)
    location = Location.from_uri(f"s3://{bucket}/exports/b", StorageOptions.from_mapping(options))
    write_two_files(location)
    content = object_server.content(bucket)
    assert sorted(content) == ["exports/a.json", "exports/b/data.yaml", "exports/b/labels/a/1.txt"]
    assert json.loads(content["exports/a.json"])["annotations"][0]["bbox"] == [1, 2, 2, 2]
    with pytest.raises(OutputError, match="exists: expected a new"):
        write_two_files(location)
