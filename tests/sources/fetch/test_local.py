"""Only regular files are read, and every refusal has an error type."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cvbatch.errors import ImageError, RowError, capture_row_error
from cvbatch.sources.fetch.local import read_local

NOBODY = 65534


def refused(path: Path | bytes, kind: str, *, max_bytes: int | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        read_local(os.fsencode(path), max_bytes=max_bytes)
    assert caught.value.kind == kind
    return str(caught.value)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Drop the rights of root, which can read everything, for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", [b"a.jpg", b"a b'\"#%.jpg", b"two\nlines.jpg", "größe.jpg".encode(), b"caf\xe9.jpg"])
def test_any_name_is_read(tmp_path: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as file:
        file.write(b"content")
    assert read_local(path) == b"content"


def test_links_are_followed_and_empty_files_are_empty(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"")
    (tmp_path / "link").symlink_to("real")
    assert read_local(os.fsencode(tmp_path / "link")) == b""


def test_a_fifo_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "a FIFO" in refused(tmp_path / "pipe", "NotARegularFile")


def test_other_kinds_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "a directory" in refused(tmp_path, "NotARegularFile")
    assert "a character device" in refused(b"/dev/zero", "NotARegularFile")
    # the path of a socket is limited to about 100 bytes
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert "a socket" in refused(b"socket", "NotARegularFile")


def test_missing_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert str(tmp_path) not in refused(tmp_path / "deleted.jpg", "NotFound")
    refused(tmp_path / "file" / "below.jpg", "NotFound")


@pytest.mark.parametrize(("target", "shown"), [(b"nowhere.jpg", "nowhere.jpg"), (b"caf\xe9.jpg", r"caf\xe9.jpg")])
def test_a_broken_link_says_where_it_leads(tmp_path: Path, target: bytes, shown: str) -> None:
    link = os.fsencode(tmp_path / "link")
    os.symlink(target, link)
    assert refused(link, "NotFound") == f"broken symbolic link to {shown}"


def test_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    refused(tmp_path / "one", "LinkLoop")


@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o755, 0o000), (0o600, 0o644)])
def test_no_permission(folder_mode: int, file_mode: int) -> None:
    # pytest's own folders are closed to other users and would cause the error themselves
    with tempfile.TemporaryDirectory() as outer:
        os.chmod(outer, 0o755)
        folder = Path(outer, "folder")
        folder.mkdir()
        (folder / "photo.jpg").write_bytes(b"secret")
        (folder / "photo.jpg").chmod(file_mode)
        folder.chmod(folder_mode)
        try:
            with as_nobody():
                refused(folder / "photo.jpg", "PermissionDenied")
        finally:
            folder.chmod(0o755)


def test_the_limit_in_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_local(os.fsencode(path), max_bytes=5) == b"12345"
    assert refused(path, "TooManyBytes", max_bytes=4) == "expected at most 4 bytes, got 5"


def test_a_file_that_is_longer_than_its_size(tmp_path: Path) -> None:
    refused(b"/proc/self/status", "TooManyBytes", max_bytes=10)
    assert read_local(b"/proc/self/status").startswith(b"Name:")


def test_other_errors_become_rows_by_attempt(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / ("x" * 300))
    error = capture_row_error("fetch", lambda: read_local(path))
    assert isinstance(error, RowError)
    assert (error.stage, error.type) == ("fetch", "OSError")


@pytest.mark.parametrize(("path", "kind"), [(b"", "NoLocation"), (b"https://host/a.jpg", "NotLocal")])
def test_lines_of_a_manifest_that_name_no_local_file(path: bytes, kind: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_local(path)
    assert caught.value.kind == kind
