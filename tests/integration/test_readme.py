"""Every command of the README is run, and every answer in it is the real one."""

from __future__ import annotations

import contextlib
import doctest
import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from cvbatch.testing import seeded_checkpoint
from tests.conftest import make_photo
from tests.rigs.objects import REGION, ObjectServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BY_THE_TEST_RUN_ITSELF = {"make demo", "make test"}
ON_A_CLUSTER = "--address"
"""Commands that have it are run in `test_submit.py`."""


def commands() -> list[str]:
    """The lines of all shell blocks that are not run by whoever runs these tests."""
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line not in BY_THE_TEST_RUN_ITSELF]
    return [line for line in lines if ON_A_CLUSTER not in line]


@pytest.fixture(scope="module")
def buckets(object_server: ObjectServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a reader with a profile, an archive in a bucket, and one for the results."""
    folder = tmp_path_factory.mktemp("aws")
    who = object_server.admin
    (folder / "credentials").write_text(
        f"[archive]\naws_access_key_id = {who.key}\naws_secret_access_key = {who.secret}\n"
    )
    (folder / "config").write_text(f"[profile archive]\nregion = {REGION}\nendpoint_url = {object_server.endpoint}\n")
    with contextlib.closing(object_server.client()) as client:
        for name in ("archive", "results"):
            client.create_bucket(Bucket=name)
    photo = make_photo(folder / "a.jpg").read_bytes()
    object_server.put("archive", {f"2019/{number}.jpg": photo for number in range(3)})
    model = seeded_checkpoint("squeezenet1_1", folder)
    weights = Path(model["checkpoint"]).read_bytes()
    model["checkpoint"] = "s3://results/jobs/birds.pth"
    job = {"source": {"uri": "photos"}, "models": [model], "output": {"uri": "birds"}}
    object_server.put("results", {"jobs/birds.pth": weights, "jobs/birds.yaml": yaml.safe_dump(job).encode()})
    files = {"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"}
    return {name: str(folder / file) for name, file in files.items()}


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


def _run(
    command: str, folder: Path, ray_head: str | None, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command)
    assert words[0] == "cvbatch", f"the README has a command that no test runs: {command}"
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, **({"RAY_ADDRESS": ray_head} if ray_head else {}), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_every_command_works(home: Path, ray_head: str, buckets: dict[str, str], object_server: ObjectServer) -> None:
    environment = dict(buckets)
    for command in commands():
        if command.startswith("export "):
            environment |= [tuple(command.removeprefix("export ").split("="))]
            continue
        command = command.replace("http://127.0.0.1:9000", object_server.endpoint)
        # a standing head has no credentials; a start of its own hands on those of its environment
        remote = "s3://" in command or "bucket" in command
        done = _run(command, home, None if remote else ray_head, environment)
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
        if not re.search(r"photos/|images/s|stage|workers|predictions|\bof 0 bytes|early|text that", line):
            assert line in real
