"""The primitives of a local disk: whole objects, created once."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cvbatch.errors import CorruptionError, JobError, OutputError, RunError
from cvbatch.output.local_store import TEMPORARY_FOLDER, LocalStore
from cvbatch.output.store import Store, create_with_retries, open_store
from tests.output.failing import Failing
from tests.rigs.racing import winners
from tests.sources.fetch.test_local import as_nobody


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "out"))


@pytest.fixture(params=["store", "object_store"])
def any_store(request: pytest.FixtureRequest) -> Store:
    any_store: Store = request.getfixturevalue(request.param)
    return any_store


def test_create_only_if_absent(any_store: Store) -> None:
    assert any_store.create_object("a/b.json", b"1")
    assert not any_store.create_object("a/b.json", b"2")
    assert any_store.read_object("a/b.json") == b"1"
    assert any_store.list_sizes(TEMPORARY_FOLDER) == {}


def test_an_object_is_on_the_disk_before_it_has_its_name(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test cannot cut the power, so this one checks the order of calls."""
    steps, fsync, link = list[str](), os.fsync, os.link

    def synced(descriptor: int) -> None:
        steps.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        fsync(descriptor)

    def linked(old: str, new: Path) -> None:
        steps.append("link")
        link(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    store.create_object("a/b.json", b"1")
    store.add_file("a/c.parquet", lambda local: Path(local).touch())
    assert steps == ["sync file", "link", "sync folder"] * 2


def test_put_replaces_the_whole(any_store: Store) -> None:
    any_store.put_object("a/b.json", b"long content")
    any_store.put_object("a/b.json", b"x")
    assert any_store.read_object("a/b.json") == b"x"


def test_one_of_many_concurrent_creations_succeeds(any_store: Store) -> None:
    won = winners(lambda data: any_store.create_object("one", data))
    assert [any_store.read_object("one")] == won


def test_added_files_appear_whole_or_not_at_all(store: LocalStore) -> None:
    def write(local: str) -> None:
        Path(local).write_bytes(b"12345")
        assert store.list_sizes("data") == {}

    def fail(local: str) -> None:
        Path(local).write_bytes(b"half")
        raise ValueError("no more")

    assert store.add_file("data/x", write) == 5
    assert store.list_sizes("data") == {"data/x": 5}
    with pytest.raises(ValueError, match="no more"):
        store.add_file("data/y", fail)
    with pytest.raises(CorruptionError, match="exists already; expected a name that was never used"):
        store.add_file("data/x", lambda local: Path(local).write_bytes(b"other") and None)
    assert store.list_sizes("data") == {"data/x": 5}
    assert store.list_sizes(TEMPORARY_FOLDER) == {}


def test_sizes_are_those_of_the_folder_itself_in_order(any_store: Store) -> None:
    for name in ("data/b", "data/a", "data/below/c", "database/d"):
        any_store.create_object(name, name.encode())
    assert list(any_store.list_sizes("data").items()) == [("data/a", 6), ("data/b", 6)]
    assert any_store.list_sizes("data", start_after="data/a") == {"data/b": 6}
    assert any_store.list_sizes("data", start_after="data/b") == any_store.list_sizes("nowhere") == {}


def test_a_name_without_a_file_does_not_affect_others(store: LocalStore) -> None:
    """Such as the name of a file that is deleted while its folder is listed."""
    store.create_object("data/a", b"1")
    store.local_path("data/gone").symlink_to("nowhere")
    assert store.list_sizes("data") == {"data/a": 1}


def test_delete_and_read_of_a_missing_object(any_store: Store) -> None:
    assert any_store.can_delete()
    assert any_store.delete_object("nothing")
    for read in (any_store.read_object, any_store.open_object):
        with pytest.raises(FileNotFoundError):
            read("nothing")


def test_a_deleted_object_no_longer_exists(any_store: Store) -> None:
    any_store.create_object("a/b", b"1")
    assert any_store.delete_object("a/b")
    assert any_store.list_sizes("a") == {}
    assert any_store.create_object("a/b", b"2")


def test_open_reads_at_any_position(any_store: Store) -> None:
    any_store.create_object("a", b"12345")
    with any_store.open_object("a") as file:
        file.seek(3)
        assert file.read() == b"45"


def test_a_file_where_the_output_should_be(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    store = LocalStore(str(tmp_path / "out"))
    with pytest.raises(FileNotFoundError):
        store.read_object("plan.json")
    with pytest.raises(OutputError, match="expected a folder, got a file"):
        store.list_sizes("data")
    with pytest.raises(OutputError, match="cannot be written: Not a directory"):
        store.create_object("plan.json", b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can step down")
def test_an_output_without_permission(tmp_path: Path, store: LocalStore) -> None:
    store.create_object("a", b"")
    with as_nobody():
        with pytest.raises(OutputError, match="Permission denied"):
            store.create_object("b", b"")
        with pytest.raises(OutputError, match="permission denied"):
            store.read_object("a")


@pytest.mark.parametrize(("uri", "root"), [("/a/b/", "/a/b"), ("file:///a/x%20y", "/a/x y")])
def test_locations(uri: str, root: str) -> None:
    assert open_store(uri).root == root


def test_locations_that_cannot_be_written() -> None:
    with pytest.raises(JobError, match="https://… is not known: expected a local path, s3://"):
        open_store("https://example.org/x")


@pytest.mark.parametrize("takes_effect", [True, False])
def test_an_unknown_outcome_is_repeated_until_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes_effect: bool
) -> None:
    monkeypatch.setenv("CVBATCH_CREATE_PAUSE", "0")
    store = Failing(str(tmp_path), failures=3, takes_effect=takes_effect)
    assert create_with_retries(store, "a", b"1") == (not takes_effect)
    assert store.read_object("a") == b"1"


def test_a_store_that_does_not_recover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_CREATE_PAUSE", "0")
    monkeypatch.setenv("CVBATCH_CREATE_TIMEOUT", "0")
    with pytest.raises(RunError, match="cannot be written: timed out"):
        create_with_retries(Failing(str(tmp_path), failures=3, takes_effect=False), "a", b"1")
