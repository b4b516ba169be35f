"""Start of a local Ray."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cvbatch.engine.startup import RayStartup
from cvbatch.errors import UsageError

STARTS = """
import sys
from cvbatch.engine.startup import RayStartup
startup = RayStartup()
cluster = startup.wait_until_ready()
print(cluster.local, cluster.machine_count, cluster.nodes[0].address, flush=True)
sys.stdin.read()
startup.stop_ray()
"""


def untold() -> dict[str, str]:
    """The environment without variables of Ray."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def test_a_local_run_is_not_reachable_from_the_network() -> None:
    mark = secrets.token_hex(8)
    start = subprocess.Popen(
        [sys.executable, "-c", STARTS],
        env={**untold(), "CVBATCH_TEST": mark},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert start.stdout is not None
    try:
        assert start.stdout.readline().split() == ["True", "1", "127.0.0.1"]
        listening = set(addresses(mark))
    finally:
        start.communicate()
    assert len(listening) > 5, "the head, its raylet and the workers listen"
    assert {address for address, _ in listening} == {"127.0.0.1"}


LATE = """
import time
from cvbatch.engine import startup
describe = startup.describe_unmet_requirement
startup.describe_unmet_requirement = lambda package: time.sleep(2) or describe(package)
ours = startup.RayStartup()
import cvbatch.engine.dataflow
print(ours.wait_until_ready().local)
ours.stop_ray()
"""


def test_ray_may_be_imported_before_it_starts() -> None:
    start = subprocess.run([sys.executable, "-c", LATE], env=untold(), capture_output=True, text=True, check=False)
    assert start.stdout.strip() == "True", start.stderr


def test_an_old_ray_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray-2.40.0.dist-info").mkdir()
    (tmp_path / "ray-2.40.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: ray\nVersion: 2.40.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"expected ray>=2\.\d+, 2\.40\.0 is installed: install it with pip"):
        RayStartup()


FAILS = """
import sys
from cvbatch.engine.startup import RayStartup
from cvbatch.errors import CvbatchError
try:
    startup = RayStartup(timeout=float(sys.argv[1]))
except CvbatchError as error:
    sys.exit(print(error.exit_code, error))
try:
    startup.wait_until_ready()
except CvbatchError as error:
    print(error.exit_code, error)
startup.stop_ray()
"""


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RAY_ADDRESS": "http://127.0.0.1:8265"}, "2 RAY_ADDRESS=http://127.0.0.1:8265: expected host:port of a head"),
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": "/nonexistent"},
            "1 Ray did not start: ",
        ),
    ],
    ids=["a dashboard", "a token that is not there"],
)
def test_a_failed_start_is_reported_and_does_not_hang(environment: dict[str, str], message: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", FAILS, "60"],
        env={**untold(), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert process.stdout.startswith(message)
    assert "Traceback" not in process.stderr


def test_a_cluster_that_never_answers_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        process = subprocess.run(
            [sys.executable, "-c", FAILS, "4"],
            env={**untold(), "RAY_ADDRESS": address},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    assert process.stdout.startswith(
        f"1 no Ray cluster answers at RAY_ADDRESS={address} (Ray was not available within 4 s)"
    )
    assert "compute.ray_start_timeout" in process.stdout


WAITS = """
import os, signal, threading
from cvbatch.engine.startup import RayStartup
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts jobs in the background with SIGINT ignored
startup = RayStartup()
threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    startup.wait_until_ready()
except KeyboardInterrupt:
    print("heard", flush=True)
startup.stop_ray()
print("stopped", flush=True)
os._exit(0)
"""


def test_an_interrupt_during_the_start_leaves_no_processes() -> None:
    mark = secrets.token_hex(8)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        for environment in ({"RAY_ADDRESS": f"127.0.0.1:{mute.getsockname()[1]}"}, {}):
            process = subprocess.run(
                [sys.executable, "-c", WAITS],
                env={**untold(), **environment, "CVBATCH_TEST": mark},
                capture_output=True,
                text=True,
                timeout=120,
                check=True,
            )
            assert process.stdout.split() == ["heard", "stopped"], process.stderr
    assert wait_until(lambda: not any(marked(mark))), "a head that was starting ends with us"


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


def marked(mark: str) -> Iterator[Path]:
    """Processes with a mark in their environment (proc(5))."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"CVBATCH_TEST={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                yield process


def addresses(mark: str) -> Iterator[tuple[str, int]]:
    """Listening addresses of processes with a mark in their environment (proc(5), `net/tcp` and `net/tcp6`)."""
    sockets = set()
    for process in marked(mark):
        with contextlib.suppress(OSError):
            sockets |= {os.readlink(descriptor) for descriptor in (process / "fd").iterdir()}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                host, _, port = fields[1].rpartition(":")
                yield ".".join(str(byte) for byte in reversed(bytes.fromhex(host[-8:]))), int(port, 16)
