"""Fixtures of all tests: one Ray head for the whole session, and the command line as a person calls it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.rigs.faults import FaultProxy
from tests.rigs.objects import ObjectServer, running_server
from tests.rigs.web import Web

# before anything imports ray, which reads it once
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

NOBODY = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent/config",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
}
"""An environment without credentials."""


@dataclass(frozen=True)
class Answer:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cvbatch = Callable[..., Answer]


@pytest.fixture
def web() -> Iterator[Web]:
    """A plain server."""
    with contextlib.closing(Web()) as server:
        yield server


@pytest.fixture(scope="session")
def ray_head() -> Iterator[str]:
    """Address of a running head with four logical CPUs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ("--num-cpus=4", "--include-dashboard=false", "--object-store-memory=1000000000", "--block")
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--node-ip-address=127.0.0.1"]
    head = subprocess.Popen(
        [*command, f"--port={port}", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for_port(port, head)
        yield f"127.0.0.1:{port}"
    finally:
        if ray := sys.modules.get("ray"):
            ray.shutdown()  # tests may have attached this process, and Ray ends it a minute after its head
        os.killpg(head.pid, signal.SIGKILL)  # SIGTERM would take half a minute
        head.wait()


@pytest.fixture
def attached(ray_head: str) -> None:
    """This process is a driver of the head."""
    import ray

    ray.init(ray_head, ignore_reinit_error=True, log_to_driver=False)


def _wait_for_port(port: int, head: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert head.poll() is None, f"ray start ended with {head.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError("the Ray head did not start")


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """A real S3 server, started for the first test that uses it."""
    with running_server(tmp_path_factory.mktemp("objects")) as server:
        yield server


@pytest.fixture(scope="session")
def _out(object_server: ObjectServer) -> str:
    return object_server.make_bucket()


@pytest.fixture
def out(_out: str, object_server: ObjectServer) -> Iterator[str]:
    """Name of an empty bucket that a job may write."""
    yield _out
    object_server.empty(_out)


@pytest.fixture(scope="session")
def _proxy(object_server: ObjectServer) -> Iterator[FaultProxy]:
    with FaultProxy(object_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def faults(_proxy: FaultProxy) -> Iterator[FaultProxy]:
    """The proxy between a client and the server, without faults at first."""
    with _proxy.doing():
        yield _proxy


@pytest.fixture
def as_job(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> ObjectServer:
    """The environment of a job that may read `images*` and write `out*`, without the machine's own settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**NOBODY, **object_server.job.environment}.items():
        monkeypatch.setenv(name, value)
    return object_server


@pytest.fixture
def cvbatch(tmp_path: Path) -> Cvbatch:
    """Run `cvbatch` in an empty folder, without a cluster."""
    return lambda *arguments: _run(arguments, tmp_path, {})


@pytest.fixture
def cvbatch_on_head(tmp_path: Path, ray_head: str) -> Cvbatch:
    """Run `cvbatch` attached to the running head."""
    return lambda *arguments: _run(arguments, tmp_path, {"RAY_ADDRESS": ray_head})


def _run(arguments: tuple[object, ...], folder: Path, environment: dict[str, str]) -> Answer:
    done = subprocess.run(
        [sys.executable, "-m", "cvbatch", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def make_photo(path: Path, *, seed: int = 0, size: tuple[int, int] = (40, 30), **options: Any) -> Path:
    """Write a small image with some structure; its kind follows from the suffix."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of twelve small photos."""
    folder = tmp_path / "photos"
    for number in range(12):
        make_photo(folder / f"{number:02d}.jpg", seed=number, size=(40 + number, 30))
    return folder
