"""Files that the options of an own model name are known by what they hold."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from cvbatch.errors import ModelError
from cvbatch.models import own_files

ONE, TWO = (hashlib.sha256(content).hexdigest() for content in (b"one", b"two"))


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    for name, content in {
        "w.bin": b"one",
        "data/a.txt": b"one",
        "data/deep/b.txt": b"two",
        "data/.hidden": b"x",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (tmp_path / "up.bin").write_bytes(b"two")
    return folder


def hashes(options: dict[str, Any], beside: Path) -> dict[str, str]:
    return own_files.hash_model_files("m", None, options, str(beside))


def test_files_anywhere_in_the_options(beside: Path) -> None:
    options = {
        "a": "./w.bin",
        "b": {"c": ["../up.bin", 3, None]},
        "d": "large",
        "e": "no.bin",
        "f": "",
        "g": ".",
        "h": "~",
    }
    assert hashes(options, beside) == {"w.bin": ONE, "../up.bin": TWO}
    assert hashes({"a": str(beside / "w.bin")}, beside) == {str(beside / "w.bin"): ONE}


def test_the_files_of_a_folder(beside: Path) -> None:
    (beside / "data" / "labels" / "_cvbatch").mkdir(parents=True)
    (beside / "data" / "labels" / "rows.parquet").write_bytes(b"an output grows")
    assert hashes({"a": "data/"}, beside) == {"data/a.txt": ONE, "data/deep/b.txt": TWO}
    for number in range(1_000):
        (beside / "data" / f"{number}.txt").touch()
    assert hashes({"a": "data/"}, beside) == {}, "so many files are data"


def test_what_changed() -> None:
    before = {"a": "1", "b": "2"}
    assert own_files.first_changed_file(before, {**before, "cache": "3"}) is None
    assert own_files.first_changed_file(before, {"a": "1", "b": "3"}) == "b"
    assert own_files.first_changed_file(before, {"b": "2"}) == "a"


def test_the_same_files_written_in_other_ways(beside: Path) -> None:
    ways: list[dict[str, Any]] = [
        {"weights": way, "data": [data], "size": 3}
        for way, data in (("w.bin", "data"), ("./w.bin", "data/"), (str(beside / "w.bin"), str(beside / "data")))
    ]
    first, *others = (own_files.comparable_options(options, hashes(options, beside)) for options in ways)
    assert [first] * 2 == others
    (beside / "w.bin").write_bytes(b"two")
    assert own_files.comparable_options(ways[0], hashes(ways[0], beside)) != first


def test_a_factory_gets_absolute_paths_of_files_that_are_written_as_such(beside: Path) -> None:
    (beside / "large").mkdir()
    options = {"a": "w.bin", "b": ["./data", ("no.bin",)], "c": "large", "d": 1.5, "e": "data/deep/../a.txt"}
    assert own_files.with_absolute_paths(options, str(beside)) == {
        "a": str(beside / "w.bin"),
        "b": [str(beside / "data"), ("no.bin",)],
        "c": "large",
        "d": 1.5,
        "e": str(beside / "data" / "a.txt"),
    }
    assert own_files.with_absolute_paths(options, None) == options


def test_a_file_that_cannot_be_read(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(own_files, "file_sha256", refuse)
    with pytest.raises(ModelError, match=r"python:m: cannot read .*w\.bin: Permission denied"):
        hashes({"a": "w.bin"}, beside)


def test_weights_and_names_that_the_source_names(tmp_path: Path) -> None:
    files = {"weights.pt": "1", "pkg/labels.json": "[]", "pkg/notes.log": "", "far.npz": "", "unnamed.pt": ""}
    source = "A = 'weights.pt', 'labels.json', 'notes.log', 'pkg', 'no such.pt', '../x.pt', '/etc/x.txt'"
    for name, text in {**files, "pkg/__init__.py": source}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = own_files.hash_model_files("pkg", tmp_path, {}, str(tmp_path))
    assert sorted(before) == ["pkg/__init__.py", "pkg/labels.json", "weights.pt"]
    (tmp_path / "weights.pt").write_text("2")
    assert (
        own_files.first_changed_file(before, own_files.hash_model_files("pkg", tmp_path, {}, str(tmp_path)))
        == "weights.pt"
    )
