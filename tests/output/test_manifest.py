"""The end of a run: which objects remain, in which order they are written, and which attempt wins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cvbatch.errors import FencedError
from cvbatch.output.commit_log import CommitLog, record_name
from cvbatch.output.manifest import (
    DATA_FOLDER,
    SUCCESS_FILE,
    Manifest,
    complete_finish,
    finish_run,
    is_finished,
    latest_manifest,
    manifest_name,
    read_success_mark,
)
from cvbatch.output.store import LocalStore
from tests.output.failing import Overtaken
from tests.samples import commit, started, write

ROWS = 6


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path))


def done(store: LocalStore, low: int = 0) -> CommitLog:
    """An attempt that commits all missing rows."""
    log = started(store, ROWS)
    if low < ROWS:
        commit(log, low, ROWS)
    return log


def stray(store: LocalStore, epoch: int) -> str:
    name = f"{DATA_FOLDER}/e{epoch:08d}-{'f' * 32}.parquet"
    store.create_object(name, b"stray")
    return name


def take_over(root: str, **options: Any) -> CommitLog:
    """Open the run as another attempt, which first deletes `_SUCCESS`."""
    store = LocalStore(root)
    log = started(store, ROWS)
    store.delete_object(SUCCESS_FILE)
    if options.get("finishes"):
        finish_run(log)
    return log


class Paused(LocalStore):
    """A store that calls a function right after it has created an object.

    Args:
        root: As for `LocalStore`.
        name: Name of the object.
        event: The function.
    """

    def __init__(self, root: str, name: str, event: Callable[[], object]) -> None:
        super().__init__(root)
        self._name, self._event = name, event

    def create_object(self, name: str, data: bytes) -> bool:
        created = super().create_object(name, data)
        if name == self._name:
            self._event()
        return created


def test_a_finished_run(store: LocalStore) -> None:
    log = done(store)
    assert not is_finished(store, log.state)
    finish_run(log)
    assert is_finished(store, log.state)
    assert json.loads(store.read_object(SUCCESS_FILE)) == {"format": "1.0", "manifest": manifest_name(2)}
    assert latest_manifest(store) == Manifest(2, list(log.state.files.values()), [])
    assert len(pd.read_parquet(store.root)) == ROWS


def test_a_run_without_mark_or_manifest_is_not_finished(store: LocalStore) -> None:
    log = done(store)
    finish_run(log)
    mark = store.read_object(SUCCESS_FILE)
    store.put_object(SUCCESS_FILE, json.dumps({"manifest": manifest_name(1)}).encode())
    assert not is_finished(store, log.state)
    store.put_object(SUCCESS_FILE, mark)
    assert is_finished(store, log.state)
    store.delete_object(manifest_name(2))
    assert not is_finished(store, log.state)


def test_files_in_the_order_of_their_rows_and_removed_images(store: LocalStore) -> None:
    assert latest_manifest(store) is None
    log = started(store, ROWS)
    high, low = [*commit(log, 4, ROWS), *commit(log, 0, 4)]
    log.remove_rows([(1, 3)])
    log.remove_rows([(3, 4)])
    finish_run(log)
    assert latest_manifest(store) == Manifest(5, [low, high], [(1, 4)])


def test_orphans_are_deleted_only_after_final(store: LocalStore) -> None:
    orphan = stray(store, 1)
    older, newer = stray(store, 0), stray(store, 2)
    store.create_object(f"{DATA_FOLDER}/notes.txt", b"mine")
    log = done(store)
    assert {orphan, older} <= set(store.list_sizes(DATA_FOLDER))
    finish_run(log)
    assert set(store.list_sizes(DATA_FOLDER)) == {*log.state.files, newer, f"{DATA_FOLDER}/notes.txt"}


def test_epochs_are_compared_as_numbers(store: LocalStore) -> None:
    for _ in range(9):
        started(store, ROWS)
    old = stray(store, 9)
    log = done(store)
    assert log.epoch == 10
    finish_run(log)
    assert old not in store.list_sizes(DATA_FOLDER)


def test_any_process_may_repeat_the_steps_after_final(store: LocalStore) -> None:
    done(store).append_final()
    for _ in range(2):
        anyone = CommitLog(store, ROWS)
        assert complete_finish(anyone)
        assert is_finished(store, anyone.state)
    late = stray(store, 1)
    assert complete_finish(CommitLog(store, ROWS))
    assert late not in store.list_sizes(DATA_FOLDER)
    assert len([name for name in store.list_sizes("_cvbatch/log")]) == 3


@pytest.mark.parametrize("content", [b'{"manifest": "_cvbatch/manifest-0000000001.json"}', b"", b"[]", b"{}", b"null"])
def test_an_older_or_foreign_mark_is_replaced(store: LocalStore, content: bytes) -> None:
    store.create_object(SUCCESS_FILE, content)
    log = done(store)
    finish_run(log)
    assert read_success_mark(store) == manifest_name(2)


def test_a_second_attempt_leaves_a_second_manifest(store: LocalStore) -> None:
    finish_run(done(store))
    log = done(store, low=ROWS)
    assert not is_finished(store, log.state)
    finish_run(log)
    assert read_success_mark(store) == manifest_name(4)
    assert latest_manifest(store) == Manifest(4, list(log.state.files.values()), [])


def test_replaced_files_stay_until_the_end(store: LocalStore) -> None:
    log = started(store, ROWS)
    [old] = commit(log, 0, ROWS)
    new = write(log, 0, ROWS)
    log.replace_files([old.path], new, [(0, ROWS)])
    assert old.path in store.list_sizes(DATA_FOLDER)
    finish_run(log)
    assert set(store.list_sizes(DATA_FOLDER)) == {file.path for file in new}


@pytest.mark.parametrize("request_name", ["create", "read"])
def test_an_attempt_that_is_overtaken_before_the_mark_leaves_none(tmp_path: Path, request_name: str) -> None:
    root = str(tmp_path)
    name = {"create": manifest_name(2), "read": SUCCESS_FILE}[request_name]
    if request_name == "read":
        LocalStore(root).create_object(SUCCESS_FILE, b'{"manifest": "_cvbatch/manifest-0000000000.json"}')
    store = Overtaken(root, request_name, name, lambda: take_over(root))
    with pytest.raises(FencedError, match="another attempt has taken over"):
        finish_run(done(store))
    assert read_success_mark(LocalStore(root)) is None


def test_an_attempt_that_is_overtaken_before_the_mark_does_not_write_it(tmp_path: Path) -> None:
    """The attempt could die before it deletes the mark again."""
    root = str(tmp_path)

    class Markless(Overtaken):
        def create_object(self, name: str, data: bytes) -> bool:
            assert name != SUCCESS_FILE
            return super().create_object(name, data)

    store = Markless(root, "create", manifest_name(2), lambda: take_over(root))
    with pytest.raises(FencedError):
        finish_run(done(store))


def test_an_attempt_that_is_overtaken_after_the_mark_deletes_it(tmp_path: Path) -> None:
    root = str(tmp_path)
    store = Overtaken(root, "create", SUCCESS_FILE, lambda: take_over(root))
    with pytest.raises(FencedError):
        finish_run(done(store))
    assert read_success_mark(LocalStore(root)) is None


def test_an_attempt_that_is_overtaken_keeps_the_mark_of_the_newer_one(tmp_path: Path) -> None:
    root = str(tmp_path)
    store = Paused(root, SUCCESS_FILE, lambda: take_over(root, finishes=True))
    with pytest.raises(FencedError):
        finish_run(done(store))
    assert read_success_mark(LocalStore(root)) == manifest_name(4)


def test_a_mark_of_a_newer_manifest_stays(tmp_path: Path) -> None:
    """A driver pauses before its mark; meanwhile another one finishes the run and ends."""
    root = str(tmp_path)
    store = Overtaken(root, "create", SUCCESS_FILE, lambda: take_over(root, finishes=True))
    with pytest.raises(FencedError):
        finish_run(done(store))
    calm = LocalStore(root)
    assert read_success_mark(calm) == manifest_name(4)
    assert is_finished(calm, CommitLog(calm, ROWS).state)


def test_files_of_a_newer_epoch_outlive_the_clean_up_of_an_older_one(tmp_path: Path) -> None:
    root = str(tmp_path)
    newer: list[str] = []

    def other_start() -> None:
        log = take_over(root)
        newer.extend(file.path for file in write(log, 0, 2))

    store = Overtaken(root, "create", manifest_name(2), other_start)
    with pytest.raises(FencedError):
        finish_run(done(store))
    assert set(newer) <= set(LocalStore(root).list_sizes(DATA_FOLDER))


def test_a_manifest_covers_the_log_up_to_its_final(tmp_path: Path) -> None:
    root = str(tmp_path)
    newer: list[str] = []

    def other_start() -> None:
        log = take_over(root)
        log.remove_rows([(0, 1)])
        newer.extend(file.path for file in write(log, 0, 2))

    with pytest.raises(FencedError):
        finish_run(done(Paused(root, record_name(2), other_start)))
    manifest = latest_manifest(LocalStore(root))
    assert manifest is not None
    assert manifest.removed == []
    assert set(newer) <= set(LocalStore(root).list_sizes(DATA_FOLDER))


def test_a_crash_at_any_step_after_final_is_repaired(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    points = [
        ("create", manifest_name(2)),
        ("delete", f"{DATA_FOLDER}/e00000001-{'f' * 32}.parquet"),
        ("create", SUCCESS_FILE),
    ]
    for number, (request, name) in enumerate(points):
        root = str(tmp_path / str(number))
        store = Overtaken(root, request, name, stop)
        stray(store, 1)
        with pytest.raises(Stop):
            finish_run(done(store))
        calm = LocalStore(root)
        log = CommitLog(calm, ROWS)
        assert not is_finished(calm, log.state)
        assert complete_finish(log)
        assert is_finished(calm, log.state)
        assert set(calm.list_sizes(DATA_FOLDER)) == set(log.state.files)


def test_a_newer_final_is_not_finished_by_an_older_manifest(store: LocalStore) -> None:
    finish_run(done(store))
    started(store, ROWS)
    log = CommitLog(store, ROWS)
    assert not is_finished(store, log.state)
    log = done(store, low=ROWS)
    log.append_final()
    assert not is_finished(store, log.state)
    assert newest_number(store) == log.state.next_seq - 1


def newest_number(store: LocalStore) -> int:
    return max(number for number in range(20) if record_name(number) in store.list_sizes("_cvbatch/log"))
