"""Files of an image are stored all or none; a place that takes nothing ends the edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvbatch.edits.base import EncodedFile
from cvbatch.edits.target import delete_temporary_files, store_files, sync_names
from cvbatch.errors import RunError
from cvbatch.storage.location import Location


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_files_replace_what_an_earlier_attempt_has_stored(tmp_path: Path) -> None:
    to = Location(str(tmp_path))
    for content in (b"one", b"two"):
        assert store_files(to, [EncodedFile("a/b.jpg", content), EncodedFile("c.jpg", content)]) is None
        sync_names(to, ["a/b.jpg", "c.jpg"])
    delete_temporary_files(to)
    assert names_in(tmp_path) == ["a/b.jpg", "c.jpg"]
    assert (tmp_path / "c.jpg").read_bytes() == b"two"


def test_a_name_that_is_not_possible_leaves_no_file_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"a file, no folder")
    for name in ("x" * 300, "taken/a.jpg"):
        files = [EncodedFile("first.jpg", b"one"), EncodedFile(name, b"two")]
        refused = store_files(Location(str(tmp_path)), files)
        assert refused is not None
        assert refused.type == "NameNotPossible"
        assert name in refused.message
    assert names_in(tmp_path) == ["taken"]


def test_a_place_that_takes_no_files_is_an_error() -> None:
    with pytest.raises(RunError, match="/proc/edited cannot be written"):
        store_files(Location("/proc/edited"), [EncodedFile("a.jpg", b"one")])
