"""Machines on this one: namespaces of their own for processes, network, mounts and host name, joined by a bridge.

Nothing of them outlives the test, even if it is killed: the first process of a machine reads from a pipe that this
process holds, and whatever runs on a machine dies with its first process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

NEEDED: Final = ("ip", "unshare", "nsenter")
BRIDGE: Final = "10.231.7.254"
_PATH: Final = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin", os.environ["PATH"]))


def why_not(needed: Sequence[str] = NEEDED) -> str | None:
    """What this machine lacks; None if nothing."""
    missing = [name for name in needed if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "only root may make namespaces"
    probe = "ip link add br0 type bridge && ip link add p1 type veth peer name p2"
    if subprocess.run(
        ["unshare", "--net", "sh", "-c", probe], capture_output=True, env=environment(), check=False
    ).returncode:
        return "this kernel lets nobody make network namespaces with bridges"
    return None


def wait_until(true: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Look until something is true.

    Raises:
        TimeoutError: If it does not become true.
    """
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.1)


@dataclass(frozen=True)
class Machine:
    """One machine: the first process in its namespaces, and the one that keeps it alive."""

    name: str
    address: str
    keeper: subprocess.Popen[bytes]
    pid: int
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def inside(self, *command: str, cwd: Path = Path("/")) -> list[str]:
        """A command as it is started on this machine."""
        entered = ["nsenter", f"--target={self.pid}", "--net", "--uts", "--pid", "--mount", "--"]
        return [*entered, "env", f"--chdir={cwd}", *command]

    def call(self, *command: str) -> None:
        """Run a command to its end."""
        subprocess.run(self.inside(*command), env=environment(), check=True)

    def daemon(self, out: Path, *command: str, given: Mapping[str, str] | None = None) -> None:
        """Start a program that runs until the machine stops; it writes to a file."""
        with out.open("wb") as file:
            running = subprocess.Popen(
                self.inside(*command),
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                env=given or environment(),
            )
        self.daemons.append(running)

    def stop(self) -> None:
        """As if its power was cut."""
        self.keeper.kill()
        for process in (self.keeper, *self.daemons):
            process.wait(timeout=30)
        assert self.keeper.stdin is not None, "it is a pipe"
        self.keeper.stdin.close()


@dataclass(frozen=True)
class Network:
    """Machines that reach each other.

    Args:
        local: A folder that is another one on each machine; all else is the same on all.
        switch: The machine with the bridge.
        machines: All others that were ever there.
    """

    local: Path
    switch: Machine
    machines: list[Machine] = field(default_factory=list)

    def add(self, name: str, number: int | None = None) -> Machine:
        """Switch a machine on; the number is the last part of its address, a new one where nothing is said."""
        machine = _machine(name, f"10.231.7.{number or len(self.machines) + 1}")
        self.machines.append(machine)
        self._ip("link", "add", _port(machine), "type", "veth", "peer", "name", "eth0", "netns", str(machine.pid))
        self._ip("link", "set", _port(machine), "master", "br0", "up")
        machine.call("mount", "-t", "tmpfs", "tmpfs", str(self.local))
        machine.call("mount", "-t", "tmpfs", "tmpfs", "/dev/shm")
        machine.call("ip", "addr", "add", f"{machine.address}/24", "dev", "eth0")
        machine.call("ip", "link", "set", "eth0", "up")
        return machine

    def cut_off(self, machine: Machine) -> None:
        """Let nothing through to a machine and from it; it does not see that."""
        self._ip("link", "set", _port(machine), "down")

    def heal(self, machine: Machine) -> None:
        """Let everything through again."""
        self._ip("link", "set", _port(machine), "up")

    def stop(self) -> None:
        """Switch all machines off but the one with the bridge."""
        for machine in self.machines:
            machine.stop()

    def _ip(self, *command: str) -> None:
        # not with the machine's own view of processes: `netns` names one by the number that we know
        subprocess.run(
            ["nsenter", f"--net=/proc/{self.switch.pid}/ns/net", "ip", *command], env=environment(), check=True
        )


@contextlib.contextmanager
def running_network(folder: Path) -> Iterator[Network]:
    """A bridge without machines; all of them end with the context."""
    local = folder / "local"
    local.mkdir()
    with contextlib.ExitStack() as running:
        switch = _machine("switch", BRIDGE)
        running.callback(switch.stop)
        network = Network(local, switch)
        running.callback(network.stop)
        switch.call("ip", "link", "add", "br0", "type", "bridge")
        switch.call("ip", "addr", "add", f"{BRIDGE}/24", "dev", "br0")
        switch.call("ip", "link", "set", "br0", "up")
        yield network


def _port(machine: Machine) -> str:
    return f"p{machine.pid}"


def _machine(name: str, address: str) -> Machine:
    spaces = ("--net", "--uts", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc")
    keeper = subprocess.Popen(
        ["unshare", *spaces, "cat"], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children")
    wait_until(lambda: bool(children.read_text().split()), f"{name} is there")
    machine = Machine(name, address, keeper, int(children.read_text().split()[0]))
    # until then, what is mounted there is mounted here, too
    wait_until(lambda: Path(f"/proc/{machine.pid}/comm").read_text().startswith("cat"), f"{name} can be entered")
    machine.call("hostname", name)
    machine.call("ip", "link", "set", "lo", "up")
    return machine


def environment() -> dict[str, str]:
    """That of this process, with the programs of root."""
    return {**os.environ, "PATH": _PATH}
