"""A Ray cluster whose nodes are machines: a head that does no work, with dashboard and token, and what joins it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.conftest import Answer
from tests.rigs.machines import Machine, Network, running_network

_GCS, _DASHBOARD = 6379, 8265
_NOTICED: Final = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1500",
    "RAY_health_check_failure_threshold": "3",
}
"""A machine that does not answer is given up after some 6 s instead of a minute."""
_ASK: Final = """
import sys, time
import requests
from cvbatch.errors import UsageError
from cvbatch.submit.address import ClusterAddress
from cvbatch.submit.probe import probe_cluster

address, expected = ClusterAddress.from_option(sys.argv[1]), set(sys.argv[2:])
"""
_WAIT_FOR_NODES: Final = f"""{_ASK}
while True:
    try:
        if {{node["node_ip"] for node in probe_cluster(address).nodes}} == expected:
            break
    except UsageError:  # it does not answer yet
        pass
    time.sleep(0.3)
"""
_WAIT_FOR_DRIVER: Final = f"""{_ASK}
while True:
    jobs = requests.get(f"{{address.url}}/api/jobs/", headers=address.request_headers, timeout=10).json()
    if "RUNNING" in (job["status"] for job in jobs):
        break
    time.sleep(0.3)
"""
_PATIENCE: Final = 120.0


@dataclass(frozen=True)
class RayCluster:
    """A running cluster.

    Args:
        network: Of its machines.
        environment: Of whoever may give it orders.
        head: The machine of the head, which has no CPU for work.
    """

    network: Network
    environment: Mapping[str, str]
    head: Machine
    workers: dict[str, Machine] = field(default_factory=dict)
    """Those that were added and not taken away."""

    @property
    def address(self) -> str:
        """Where drivers attach."""
        return f"{self.head.address}:{_GCS}"

    @property
    def url(self) -> str:
        """The dashboard, as the head's machine sees it."""
        return f"http://127.0.0.1:{_DASHBOARD}"

    def begin(self, *command: str, cwd: Path, **more: str) -> subprocess.Popen[str]:
        """Start a command on the head's machine."""
        return subprocess.Popen(
            self.head.inside(*command, cwd=cwd),
            env={**self.environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cvbatch(self, *arguments: str, cwd: Path, timeout: float = 240, **more: str) -> Answer:
        """Run `cvbatch` on the head's machine."""
        started = self.begin(sys.executable, "-m", "cvbatch", *arguments, cwd=cwd, **more)
        out, err = started.communicate(timeout=timeout)
        return Answer(started.returncode, out, err)

    def add(
        self, name: str, *, cpus: int = 2, resources: Mapping[str, float] = {}, labels: Mapping[str, str] = {}
    ) -> Machine:
        """Switch a machine on and let it join; it is there a few seconds later."""
        machine = self.network.add(name)
        about = [f"--num-cpus={cpus}", f"--resources={json.dumps(dict(resources))}"]
        about += [f"--labels={','.join(f'{label}={value}' for label, value in labels.items())}"] if labels else []
        _ray_start(self.network, machine, self.environment, f"--address={self.address}", *about)
        self.workers[name] = machine
        return machine

    def kill(self, name: str) -> None:
        """Cut a machine's power; nobody is told."""
        self.workers.pop(name).stop()

    def cut_off(self, name: str) -> Machine:
        """Take a machine's network away; what runs there goes on and does not see it."""
        machine = self.workers.pop(name)
        self.network.cut_off(machine)
        return machine

    def wait_for_nodes(self) -> None:
        """Wait until the head knows the machines that are there, and no others.

        Raises:
            subprocess.TimeoutExpired: If that takes too long.
        """
        self._ask(_WAIT_FOR_NODES, *(machine.address for machine in (self.head, *self.workers.values())))

    def wait_for_driver(self) -> None:
        """Wait until a driver is attached.

        Raises:
            subprocess.TimeoutExpired: If none comes.
        """
        self._ask(_WAIT_FOR_DRIVER)

    def _ask(self, script: str, *arguments: str) -> None:
        asking = self.head.inside(sys.executable, "-c", script, self.url, *arguments)
        subprocess.run(asking, env=self.environment, check=True, timeout=_PATIENCE)


def with_token(folder: Path) -> dict[str, str]:
    """The environment of a head, and of whoever may give it orders; the token lies in the folder."""
    token = folder / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {
        **given,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{given['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[RayCluster]:
    """Start a head in a folder with a short path, and end it and whatever joined it with the context."""
    environment = with_token(folder)
    with running_network(folder) as network:
        head = network.add("head")
        options = ["--head", f"--port={_GCS}", "--dashboard-host=127.0.0.1", f"--dashboard-port={_DASHBOARD}"]
        _ray_start(network, head, {**environment, **_NOTICED}, *options, "--num-cpus=0")
        cluster = RayCluster(network, environment, head)
        cluster.wait_for_nodes()
        yield cluster


def _ray_start(network: Network, machine: Machine, environment: Mapping[str, str], *options: str) -> None:
    common = (f"--node-ip-address={machine.address}", f"--temp-dir={network.local}", "--object-store-memory=100000000")
    start = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *common, *options)
    machine.daemon(network.local.parent / f"{machine.name}.out", *start, given=environment)
