"""Disks without hard links: the methods that replace them, and the tests of these methods."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cvbatch.errors import OutputError
from cvbatch.output import create_claims
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.exclusive_create import CREATE_METHODS, probe_create_method
from cvbatch.output.local_store import TEMPORARY_FOLDER, LocalStore
from cvbatch.output.manifest import SUCCESS_FILE, finish_run
from cvbatch.output.store import create_with_retries
from cvbatch.planning.plan import load_plan
from cvbatch.results.verify import verify_output
from tests.output.dying import ALIVE, DEAD
from tests.rigs.mounts import Refusals, mounted
from tests.rigs.racing import winners
from tests.samples import commit, planned, started

CLAIMS, MARK = "_cvbatch/claims", "_cvbatch/created-with"
MOUNTS = {
    "folder": Refusals(link=errno.EPERM),
    "exclusive": Refusals(link=errno.EXDEV, rename_folder=errno.EPERM),
}


@pytest.fixture(scope="module", params=[*MOUNTS])
def mount(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The method that works on a file system without links, and its mount point."""
    with mounted(tmp_path_factory.mktemp("mount"), MOUNTS[request.param]) as path:
        yield request.param, path


class Disk:
    """A disk of this process that refuses requests."""

    _REQUESTS: ClassVar[Mapping[str, tuple[object, str]]] = {
        "link": (os, "link"),
        "rename": (ctypes, "CDLL"),
        "folder": (os, "rename"),
        "exclusive": (os, "open"),
    }

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def refuses(self, number: int, *ways: str) -> None:
        """Let the calls of these methods fail with an error number."""

        def fail(*_: Any, **__: Any) -> None:
            raise OSError(number, os.strerror(number))

        rename, open_ = os.rename, os.open
        self.answers(
            {
                "link": fail,
                "rename": lambda *_, **__: object(),
                "folder": lambda old, new: (fail if os.path.isdir(old) else rename)(old, new),
                "exclusive": lambda path, flags, *mode, **options: (fail if flags & os.O_EXCL else open_)(
                    path, flags, *mode, **options
                ),
            },
            *ways,
        )

    def answers(self, functions: Mapping[str, Callable[..., Any]], *ways: str) -> None:
        """Replace the call that each of these methods makes by another function."""
        for way in ways:
            self._monkeypatch.setattr(*self._REQUESTS[way], functions[way])


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def check_creations(store: LocalStore, way: str) -> None:
    """Check that a store creates an object once and whole, and again after a deletion."""
    store.check_writable()
    assert store.create_object("_cvbatch/log/0.json", b"1")
    assert not store.create_object("_cvbatch/log/0.json", b"2")
    assert store.read_object("_cvbatch/log/0.json") == b"1"
    assert store.add_file("data/x", lambda local: Path(local).write_bytes(b"12345") and None) == 5
    assert store.list_sizes("data") == {"data/x": 5}
    for content in (b"a", b"b"):
        assert store.create_object(SUCCESS_FILE, content)
        assert not store.create_object(SUCCESS_FILE, b"c")
        assert store.read_object(SUCCESS_FILE) == content
        assert store.delete_object(SUCCESS_FILE)
    won = winners(lambda data: create_with_retries(store, "_cvbatch/one", data))
    assert [store.read_object("_cvbatch/one")] == won
    assert json.loads(store.read_object(MARK)) == {"format": "1.0", "way": way}
    assert store.list_sizes(TEMPORARY_FOLDER) == {}
    assert not os.path.exists(store.local_path(CLAIMS)) or os.listdir(store.local_path(CLAIMS)) == []


@pytest.mark.parametrize(
    "number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV, errno.EMLINK, errno.EINVAL, errno.EACCES]
)
@pytest.mark.parametrize(
    ("ways", "remaining"),
    [(["link"], "rename"), (["link", "rename"], "folder"), (["link", "rename", "folder"], "exclusive")],
)
def test_the_first_working_method_is_used(
    tmp_path: Path, disk: Disk, number: int, ways: list[str], remaining: str
) -> None:
    disk.refuses(number, *ways)
    check_creations(LocalStore(str(tmp_path / "out")), remaining)


def test_on_a_mount(mount: tuple[str, Path]) -> None:
    way, path = mount
    check_creations(LocalStore(str(path / "created")), way)


def test_a_whole_run_on_a_mount(mount: tuple[str, Path]) -> None:
    folder = mount[1] / "run"
    store, plan = planned(folder, 12)
    log = started(store, plan.rows)
    commit(log, 4, 12, failed=[5])
    second = CommitLog(store, plan.rows)
    assert second.open_epoch() == 2
    commit(second, 0, 4)
    finish_run(second)
    assert verify_output(store, CommitLog(store, plan.rows, whole=True), deep=True).is_proven
    assert load_plan(LocalStore(store.root)) == plan


@pytest.mark.parametrize("way", ["link", "folder", "exclusive"])
def test_dead_processes_do_not_block_others(tmp_path: Path, way: str) -> None:
    answers = answers_after_deaths(tmp_path / "out", way)
    assert {answer["content"] for answer in answers} == {DEAD.decode(), ALIVE.decode()}


def test_dead_processes_on_a_mount_do_not_block_others(mount: tuple[str, Path]) -> None:
    way, path = mount
    answers_after_deaths(path / "dying", way)


def answers_after_deaths(folder: Path, way: str) -> list[dict[str, Any]]:
    """Check that after each death the next process creates the object, or finds that of the dead process."""
    command = [sys.executable, "-m", "tests.output.dying", str(folder), way]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert process.returncode == 0, process.stderr
    answers = [json.loads(line) for line in process.stdout.splitlines()]
    assert len(answers) > 5, "a creation has several steps"
    for answer in answers:
        assert answer["again"] is False
        assert answer["content"] == (ALIVE if answer["created"] else DEAD).decode()
    return answers


def test_without_a_working_method_the_error_names_all_of_them(tmp_path: Path, disk: Disk) -> None:
    disk.refuses(errno.EPERM, "link", "rename", "folder", "exclusive")
    with pytest.raises(
        OutputError, match=r"no method works \(hard links: .*renameat2.*folder.*O_EXCL: .*choose another"
    ):
        LocalStore(str(tmp_path / "out")).check_writable()


def test_a_mount_without_a_working_method(tmp_path: Path) -> None:
    with mounted(tmp_path, Refusals(rename_folder=errno.EINVAL, exclusive=errno.EINVAL)) as path:
        store = LocalStore(str(path / "out"))
        with pytest.raises(OutputError, match="no method works"):
            store.check_writable()
        with pytest.raises(OutputError, match="no method works"):
            store.create_object("_cvbatch/log/0.json", b"1")


def test_methods_that_overwrite_are_rejected(tmp_path: Path, disk: Disk) -> None:
    rename, open_ = os.rename, os.open

    def replaces(old: str, new: Path) -> None:
        if os.path.isdir(old) and os.path.isdir(new):
            shutil.rmtree(new)
        rename(old, new)

    careless = {
        "link": shutil.copyfile,
        "rename": lambda *_, **__: object(),
        "folder": replaces,
        "exclusive": lambda path, flags, *mode, **options: open_(path, flags & ~os.O_EXCL, *mode, **options),
    }
    disk.answers(careless, *careless)
    for way in CREATE_METHODS.values():
        problem = probe_create_method(way, str(tmp_path / "t"), tmp_path / way.name, tmp_path / "claims" / way.name)
        assert problem is not None, way.name
        assert way.name == "rename" or "overwrites" in problem


def test_later_attempts_use_the_same_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They do so even if links work again, as on the machine that exports the disk."""
    with monkeypatch.context() as patched:
        Disk(patched).refuses(errno.EPERM, "link", "rename")
        LocalStore(str(tmp_path)).check_writable()
    check_creations(LocalStore(str(tmp_path)), "folder")
    LocalStore(str(tmp_path)).put_object(MARK, b"folder")  # as earlier versions wrote it
    with monkeypatch.context() as patched:
        Disk(patched).refuses(errno.EPERM, "link", "rename")
        assert LocalStore(str(tmp_path)).create_object("x", b"")
    assert LocalStore(str(tmp_path)).read_object(MARK) == b"folder"
    for unknown in (b"telepathy", b'{"format": "1.1", "way": "telepathy"}', b'{"format": "2.0"}'):
        LocalStore(str(tmp_path)).put_object(MARK, unknown)
        with pytest.raises(OutputError, match="use a newer cvbatch"):
            LocalStore(str(tmp_path)).create_object("y", b"")


def test_a_run_that_was_copied_to_a_disk_without_links_resumes(tmp_path: Path, disk: Disk) -> None:
    store, plan = planned(tmp_path, 12)
    commit(started(store, plan.rows), 4, 12)
    shutil.copytree(store.root, tmp_path / "copy")
    disk.refuses(errno.EPERM, "link")
    copied = LocalStore(str(tmp_path / "copy"))
    log = started(copied, plan.rows)
    commit(log, 0, 4)
    finish_run(log)
    assert json.loads(copied.read_object(MARK))["way"] == "rename"
    assert verify_output(copied, CommitLog(copied, plan.rows, whole=True), deep=True).is_proven


def test_a_partial_claim_of_a_living_process_is_awaited(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_bytes(name.encode())
    claim = tmp_path / "claim"
    assert create_claims.FILE_CLAIMS.make_claim(str(tmp_path / "first"), claim)
    whole = claim.read_bytes()
    claim.write_bytes(whole[:-2])
    filling = threading.Timer(0.4, claim.write_bytes, [whole])
    filling.start()
    assert create_claims.FILE_CLAIMS.read_claim(claim) == b"first"
    filling.join()
    assert not create_claims.FILE_CLAIMS.make_claim(str(tmp_path / "second"), claim)


def test_a_folder_sync_may_fail_but_a_file_sync_may_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, numbers = os.fsync, {"folder": errno.EINVAL, "file": 0}

    def refused(descriptor: int) -> None:
        number = numbers["folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file"]
        if number:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    store = LocalStore(str(tmp_path / "out"))
    for number in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
        numbers["folder"] = number
        assert store.create_object(f"a/{number}", b"1")
    numbers["file"] = errno.EIO
    with pytest.raises(Exception, match="Input/output error"):
        store.create_object("a/x", b"1")
    assert store.list_sizes("a").keys() == {f"a/{number}" for number in (errno.EINVAL, errno.ENOTSUP, errno.EBADF)}
