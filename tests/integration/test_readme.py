"""Every command of the README is run, and every answer in it is the real one."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BY_THE_TEST_RUN_ITSELF = {"make demo", "make test"}


def commands() -> list[str]:
    """The lines of all shell blocks that are not run by whoever runs these tests."""
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line not in BY_THE_TEST_RUN_ITSELF]


@pytest.fixture(scope="module")
def home(ray_head: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader has it: the demo has run, and there are photos."""
    folder = tmp_path_factory.mktemp("reader")
    done = _run("cvbatch demo", folder, ray_head)
    assert done.returncode == 0, done.stderr
    (folder / "photos").symlink_to(folder / "cvbatch-demo" / "photos" / "2024")
    (folder / "jobs").symlink_to(ROOT / "jobs")
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards" / "2024.tar", "w") as shard:
        shard.add(folder / "photos" / "garage", "garage")
    # of a host that is not listed, so that nothing is asked
    (folder / "urls.csv").write_text("uri\nhttps://other.example.org/a.jpg\n")
    return folder


def _run(command: str, folder: Path, ray_head: str) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command)
    assert words[0] == "cvbatch", f"the README has a command that no test runs: {command}"
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, "RAY_ADDRESS": ray_head},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_every_command_works(home: Path, ray_head: str) -> None:
    for command in commands():
        done = _run(command, home, ray_head)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_every_answer_is_real(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    answers = "\n".join(re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
    examples = doctest.DocTestParser().get_doctest(answers, {}, "README.md", "README.md", 0)
    failures = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(examples).failed
    assert failures == 0
    assert len(examples.examples) >= 8


def test_the_output_of_the_demo_is_real(home: Path, ray_head: str) -> None:
    shown = re.search(r"```text\n(.*?)```", README, flags=re.DOTALL)
    assert shown
    real = _run("cvbatch demo", home, ray_head).stdout
    table = (home / "cvbatch-demo" / "contact_sheet.png").stat().st_size
    assert table > 100_000
    # what differs from run to run and from machine to machine: folders and times
    for line in shown.group(1).splitlines():
        if not re.search(r"photos/|rate|stage|workers|predictions|\bof 0 bytes|early|text that", line):
            assert line in real
