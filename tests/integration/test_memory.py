"""A container that is too small, made of a real control group where this machine lets us make one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.samples import photos

GROUPS = {"memory.max": Path("/sys/fs/cgroup"), "memory.limit_in_bytes": Path("/sys/fs/cgroup/memory")}


@pytest.fixture
def small_container(tmp_path: Path) -> Iterator[Path]:
    """A control group of 1 GB."""
    for name, parent in GROUPS.items():
        group = parent / f"cvbatch-{os.getpid()}-{tmp_path.name}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / name).exists():
                (group / name).write_text("1000000000")
                yield group
                return
        finally:
            group.rmdir()
    pytest.skip("control groups cannot be made here")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_what_cannot_fit_is_refused_before_anything_starts(command: str, small_container: Path, tmp_path: Path) -> None:
    source, output = photos(tmp_path / "photos", 2), tmp_path / "out"
    asked = [command, "--source", str(source), "--model", "efficientnet_lite0", "--output", str(output)]
    inside = f'echo $$ > {small_container}/cgroup.procs; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", inside, "sh", sys.executable, "-m", "cvbatch", *asked],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert "cvbatch: the container has 1.0 GB, this job needs about 1.5 GB" in done.stderr
    assert not output.exists()
