"""Jobs on a standing cluster, through its dashboard, with a token."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from tests.conftest import Answer, make_photo
from tests.pages import PAGES, ROOT, page_commands
from tests.rigs.clusters import with_token
from tests.rigs.objects import ObjectServer

PAGE_ADDRESS = "http://127.0.0.1:8265"
"""What pages call the dashboard."""

MODEL = """
import time

import numpy as np

from pace import SECONDS
from cvbatch import View


class Slow:
    task = "classification"
    view = View(resize=(8, 8))
    categories = ("image",)

    def predict(self, images, sizes):
        time.sleep(SECONDS * len(images))
        return np.ones((len(images), 1), np.float32)
"""


@dataclass(frozen=True)
class Dashboard:
    """A head of Ray with its dashboard."""

    url: str
    environment: Mapping[str, str]
    folder: Path

    def cvbatch(self, *arguments: str, timeout: float = 240, **environment: str) -> Answer:
        """Run a command against it."""
        started = self.begin(*arguments, **environment)
        out, err = started.communicate(timeout=timeout)
        return Answer(started.returncode, out, err)

    def begin(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "cvbatch", *arguments, "--address", self.url]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def job(self, name: str, images: int) -> str:
        """A job file with a slow model of its own; returns its path."""
        (self.folder / f"{name}-photos").mkdir(exist_ok=True)
        for number in range(images):
            Image.new("RGB", (32, 24), (number, 0, 0)).save(self.folder / f"{name}-photos" / f"{number}.png")
        (self.folder / "slow.py").write_text(MODEL)
        (self.folder / "pace.py").write_text("SECONDS = 0.05\n")
        text = f"source: {{uri: {name}-photos}}\nmodels: [{{model: 'python:slow:Slow', task: classification}}]\n"
        text += f"compute: {{unit_rows: 8, num_actors: 1}}\noutput: {{uri: {name}}}\n"
        (self.folder / f"{name}.yaml").write_text(text)
        return f"{name}.yaml"

    def rows(self, name: str) -> int:
        """Rows of a run, each once."""
        frame = pd.read_parquet(self.folder / name)
        assert frame["row_id"].is_unique
        assert set(frame["status"]) == {"ok"}
        return len(frame)


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    with running_dashboard(tmp_path_factory.mktemp("submit"), {}) as started:
        yield started


@contextlib.contextmanager
def running_dashboard(folder: Path, more: Mapping[str, str]) -> Iterator[Dashboard]:
    """Start a head of Ray with its dashboard, and end it with the context.

    Args:
        folder: Where commands are run.
        more: Environment variables of the head and of the commands.
    """
    ray_folder = tempfile.mkdtemp(prefix="cvbatch-head-")
    # a short path, as it holds sockets; and of its own, or drivers are sent to the newest head of the machine
    environment = {**with_token(folder), "RAY_TMPDIR": ray_folder, **more}
    gcs, port, agent = free_port(), free_port(), free_port()
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={gcs}"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={port}", "--num-cpus=4", "--min-worker-port=0"]
    command += ["--max-worker-port=0", "--object-store-memory=300000000", f"--dashboard-agent-listen-port={agent}"]
    command += [f"--ray-client-server-port={free_port()}"]
    head = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(lambda: listens(port), head)
        yield Dashboard(f"http://127.0.0.1:{port}", environment, folder)
    finally:
        os.killpg(head.pid, signal.SIGKILL)  # SIGTERM would take half a minute
        head.wait()
        shutil.rmtree(ray_folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what: Callable[[], Any], process: subprocess.Popen[Any] | None = None, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert process is None or process.poll() is None, f"ended with {process and process.returncode}"
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.2)
    return found


def drivers() -> list[int]:
    """The processes that direct runs on this machine and are watched; those that watch, or were forked, are not."""
    found, parents = [], {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line, environment = ((process / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
            status = (process / "status").read_text()
        except OSError:
            continue
        if {b"cvbatch", b"run"} <= set(line) and any(each.startswith(b"CVBATCH_WATCHED=") for each in environment):
            found.append(int(process.name))
            parents[int(process.name)] = int(status.split("PPid:")[1].split()[0])
    return [process for process in found if parents[process] not in found]


def submission(answer: Answer) -> str:
    return next(word for word in answer.err.split() if word.startswith("cvbatch-"))


def test_a_job_with_its_own_model_is_followed_to_its_end_and_run_once(dashboard: Dashboard) -> None:
    job = dashboard.job("followed", 30)
    first = dashboard.cvbatch("submit", job, "--follow", "--json")
    assert first.code == 0, first.err
    assert (first.json["rows"], first.json["finished"]) == (30, True)
    assert "30 images planned, 0 done" in first.err
    assert dashboard.rows("followed") == 30
    again = dashboard.cvbatch("submit", job, "--follow")
    assert again.code == 0, again.err
    assert "already has this job" in again.err
    assert submission(again) == submission(first)
    assert "followed" in again.out, "the result is told again"
    said = dashboard.cvbatch("logs", "followed")
    assert (said.code, "30 images planned" in said.err) == (0, True)
    found = dashboard.cvbatch("status", "followed", "--json").json
    assert (found["id"], found["status"], found["exit_code"]) == (submission(first), "SUCCEEDED", 0)
    assert [node["CPU"] for node in found["nodes"]] == [4]
    shown = dashboard.cvbatch("status", submission(first)).out
    assert "succeeded, exit code 0" in shown
    assert "1 nodes on 1 machines, 4 CPUs, 0 GPUs" in shown
    record = json.loads((dashboard.folder / "followed" / "_cvbatch" / "run.json").read_text())
    assert record["versions"]["cvbatch"]
    assert (record["cluster"]["local"], len(record["cluster"]["nodes"])) == (False, 1)


@pytest.mark.slow
def test_whoever_kills_the_driver_does_not_stop_the_job(dashboard: Dashboard) -> None:
    started = dashboard.begin("submit", dashboard.job("killed", 200), "--follow", "--json", "--retries", "2")
    log = dashboard.folder / "killed" / "_cvbatch" / "log"
    wait_for(lambda: len(list(log.glob("*.json"))) > 2, started)
    (driver,) = drivers()
    os.kill(driver, signal.SIGKILL)
    out, err = started.communicate(timeout=240)
    assert started.returncode == 0, err
    assert "the run was ended by SIGKILL; it restarts in 1 s, attempt 2 of at most 3" in err
    assert json.loads(out)["rows"] == 200
    assert json.loads(out)["rows_this_start"] < 200, "what was committed is not computed again"
    assert dashboard.rows("killed") == 200


@pytest.mark.slow
def test_the_models_of_a_run_change_on_the_cluster(dashboard: Dashboard) -> None:
    job = dashboard.job("evolved", 60)
    assert dashboard.cvbatch("submit", job, "--follow", "--json").code == 0
    path = dashboard.folder / job
    second = "{model: 'python:slow:Slow', task: classification, as: second}"
    path.write_text(path.read_text().replace("models: [", f"models: [{second}, "))
    refused = dashboard.cvbatch("submit", job, "--follow")
    assert refused.code == 2
    assert "or add --evolve: it computes second; copies classification" in refused.err
    started = dashboard.begin("submit", job, "--evolve", "--follow", "--json", "--retries", "2")
    hidden = dashboard.folder / "evolved" / "_cvbatch"
    wait_for(lambda: len(list(hidden.glob("evolving-*/_cvbatch/log/*.json"))) > 2, started)
    (driver,) = drivers()
    os.kill(driver, signal.SIGKILL)
    out, err = started.communicate(timeout=240)
    assert started.returncode == 0, err
    assert "restarts in 1 s, attempt 2 of at most 3" in err
    assert json.loads(out)["rows"] == dashboard.rows("evolved") == 60
    frame = pd.read_parquet(dashboard.folder / "evolved")
    assert set(frame["second_label"]) == set(frame["classification_label"]) == {"image"}
    assert list(hidden.glob("evolving*")) == []


@pytest.mark.slow
def test_a_job_that_was_stopped_goes_on_when_it_is_submitted_again(dashboard: Dashboard) -> None:
    job = dashboard.job("stopped", 200)
    first = dashboard.cvbatch("submit", job, "--retries", "2", "--json")
    assert (first.code, first.json["new"]) == (0, True)
    twice = dashboard.cvbatch("submit", job, "--json")
    assert (twice.json["job"], twice.json["new"]) == (first.json["job"], False)
    assert "other options" not in twice.err
    other = dashboard.cvbatch("submit", job, "--limit", "5", "--json")
    assert (other.json["job"], other.json["new"]) == (first.json["job"], False)
    assert f"{first.json['job']}, submitted with other options: stop it to use these" in other.err
    log = dashboard.folder / "stopped" / "_cvbatch" / "log"
    wait_for(lambda: len(list(log.glob("*.json"))) > 2)
    stopped = dashboard.cvbatch("stop", "stopped")
    assert stopped.code == 0
    assert f"{first.json['job']} on {dashboard.url}: stopped; rows that are written are committed" in stopped.err
    assert (
        "rows that are written are committed. Resume with: the same cvbatch submit"
        in dashboard.cvbatch("logs", "stopped").err
    )
    assert not (dashboard.folder / "stopped" / "_SUCCESS").exists()
    assert dashboard.cvbatch("logs", "stopped", "--follow").code == 1, "it did not finish"
    last = dashboard.cvbatch("submit", job, "--follow", "--json")
    assert last.code == 0, last.err
    assert submission(last) == f"{first.json['job']}-2"
    assert last.json["rows_this_start"] < 200
    assert dashboard.rows("stopped") == 200


def test_a_job_that_is_wrong_ends_with_its_own_line_and_is_not_tried_again(dashboard: Dashboard) -> None:
    job = dashboard.job("wrong", 1)
    wrong = dashboard.cvbatch("submit", job, "--follow", "--retries", "3", "--source", "nowhere")
    assert wrong.code == 2
    assert "nowhere" in wrong.err
    assert "restarts in" not in wrong.err
    assert "Traceback" not in wrong.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RAY_AUTH_TOKEN_PATH": "", "HOME": "/nonexistent"}, "asks for a token: set RAY_AUTH_TOKEN_PATH"),
        ({"RAY_AUTH_TOKEN": "0" * 64}, "refuses the token"),
    ],
)
def test_tokens_that_are_missing_or_wrong(dashboard: Dashboard, change: dict[str, str], message: str) -> None:
    for command in (("submit", dashboard.job("denied", 1)), ("logs", "cvbatch-1"), ("stop", "cvbatch-1")):
        denied = dashboard.cvbatch(*command, **change)
        assert (denied.code, denied.out, denied.err.count("\n")) == (2, "", 1)
        assert message in denied.err


def test_a_job_that_nobody_knows(dashboard: Dashboard) -> None:
    unknown = dashboard.cvbatch("stop", "cvbatch-unknown")
    assert (unknown.code, unknown.err.count("\n")) == (2, 1)
    assert "cvbatch-unknown is neither a job of this cluster nor the output of one: it has " in unknown.err


def commands_of_pages(*, bucket: bool) -> list[list[str]]:
    """The arguments of all commands of pages that need a dashboard, each once, without its address."""
    commands = [command for page in PAGES for command in page_commands(page) if command.needs_dashboard]
    assert {command.words[-1] for command in commands if "--follow" not in command.words} == {PAGE_ADDRESS}
    chosen = [command.words[1:] for command in commands if ("jobs/bucket.yaml" in command.words) == bucket]
    cut = [words[: words.index("--address")] + words[words.index("--address") + 2 :] for words in chosen]
    return [words for at, words in enumerate(cut) if words not in cut[:at]]


@pytest.mark.slow
def test_the_commands_of_the_pages(dashboard: Dashboard) -> None:
    commands = commands_of_pages(bucket=False)
    assert [words[0] for words in commands] == ["submit", "status", "logs", "stop"]
    (dashboard.folder / "jobs").symlink_to(ROOT / "jobs")
    dashboard.job("photos", 3)
    (dashboard.folder / "photos-photos").rename(dashboard.folder / "photos")
    for words in commands:
        done = dashboard.cvbatch(*words)
        assert done.code == 0, f"{words}\n{done.err}"


@pytest.mark.slow
def test_a_job_with_buckets_of_the_pages(tmp_path: Path, object_server: ObjectServer) -> None:
    for name in ("archive", "results"):
        object_server.ensure_bucket(name)
    object_server.put("archive", {"2019/a.jpg": make_photo(tmp_path / "a.jpg").read_bytes()})
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    commands = commands_of_pages(bucket=True)
    assert len(commands) == 1
    environment = {**object_server.admin.environment, "AWS_ENDPOINT_URL_S3": object_server.endpoint}
    with running_dashboard(tmp_path, environment) as dashboard:
        done = dashboard.cvbatch(*commands[0])
    assert done.code == 0, done.err
