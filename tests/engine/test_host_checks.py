"""Checks of this machine before Ray starts."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cvbatch.engine.host_checks import check_host, ray_temporary_folder
from cvbatch.errors import UsageError


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)


def test_this_machine_passes_the_checks() -> None:
    check_host()
    with ray_temporary_folder() as folder:
        assert folder is None


@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="makes a network of its own")
def test_a_machine_that_cannot_reach_itself_is_refused() -> None:
    code = "from cvbatch.engine.host_checks import check_host; check_host()"
    process = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert "cannot reach itself at 127.0.0.1 (network is unreachable)" in process.stderr
    assert "ip link set lo up" in process.stderr


def test_too_little_address_space_is_refused() -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000,) * 2)"
    code = f"from cvbatch.engine.host_checks import check_host; {limited}; check_host()"
    process = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
    assert "2.0 GB of address space (ulimit -v), and torch and Ray need 6.5 GB" in process.stderr


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_long_temporary_folder_is_replaced_by_a_short_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (long := tmp_path / ("x" * 100)).mkdir()
    monkeypatch.setenv(name, str(long))
    with ray_temporary_folder() as folder:
        assert folder is not None
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        socket_there = f"{folder}/session_2026-11-28_18-16-35_212118_4194304/sockets/plasma_store"
        assert len(os.fsencode(socket_there)) <= 107
        Path(folder, "log").write_text("of Ray")
    assert not os.path.exists(folder)


def test_the_length_of_a_folder_is_counted_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/tmp/" + "ü" * 20)
    with ray_temporary_folder() as folder:
        assert folder is not None


def test_a_missing_short_folder_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/" + "x" * 100)
    folders = ("/nonexistent/a", "/nonexistent/b")
    with pytest.raises(UsageError, match="too long for Ray's sockets, and none of /nonexistent/a, /nonexistent/b"):
        ray_temporary_folder(short_folders=folders).__enter__()


def test_a_full_temporary_folder_is_refused() -> None:
    with pytest.raises(UsageError, match=r"/tmp has \d+ MB free, and Ray needs 1000000000 MB"):
        ray_temporary_folder(least_free=10**15).__enter__()


def test_an_unusable_temporary_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/proc/none")
    with pytest.raises(UsageError, match="temporary folder /proc/none cannot be used"):
        ray_temporary_folder().__enter__()
