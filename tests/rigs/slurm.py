"""A real Slurm of two machines: namespaces of their own for processes, network and host name, on this one.

Nothing of it outlives the context: a machine is a process, and whatever runs on it dies with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

NEEDED: Final = ("slurmctld", "slurmd", "munged", "sbatch", "ip", "unshare", "nsenter")
NODES: Final = ("n1", "n2")
_PATH: Final = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin", os.environ["PATH"]))
_CPUS: Final = 2
_CONFIG: Final = """
ClusterName=tests
SlurmctldHost=control(10.231.7.254)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1,requeue_setup_env_fail
SlurmdTimeout=10
KillWait=2
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=usual Nodes=ALL Default=YES PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=2
"""


def why_not() -> str | None:
    """What this machine lacks; None if nothing."""
    missing = [name for name in NEEDED if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "only root may make namespaces and run slurmd"
    probe = "ip link add br0 type bridge && ip link add p1 type veth peer name p2"
    if subprocess.run(["unshare", "--net", "sh", "-c", probe], capture_output=True, env=_env(), check=False).returncode:
        return "this kernel lets nobody make network namespaces with bridges"
    return None


@dataclass(frozen=True)
class Machine:
    """One machine: the first process in its namespaces, and the one that keeps it alive."""

    name: str
    keeper: subprocess.Popen[bytes]
    pid: int
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def inside(self, *command: str) -> list[str]:
        """A command as it is started on this machine."""
        return ["nsenter", f"--target={self.pid}", "--net", "--uts", "--pid", "--mount", "--", *command]

    def stop(self) -> None:
        """As if its power was cut."""
        self.keeper.kill()
        for process in (self.keeper, *self.daemons):
            process.wait(timeout=30)


@dataclass(frozen=True)
class Slurm:
    """A running cluster.

    Args:
        folder: Of its daemons.
        local: A folder that is another one on each machine.
        control: Where the controller runs and jobs are submitted.
        nodes: Where jobs run.
    """

    folder: Path
    local: Path
    control: Machine
    nodes: dict[str, Machine] = field(default_factory=dict)

    def command(self, *command: str, cwd: Path | None = None, more: dict[str, str] | None = None) -> str:
        """Run a client of Slurm on the control machine; what it wrote."""
        environment = {**_env(), "SLURM_CONF": str(self.folder / "slurm.conf"), **(more or {})}
        done = subprocess.run(
            self.control.inside("env", f"--chdir={cwd or self.folder}", *command),
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def job(self, number: str) -> dict[str, str]:
        """What Slurm says of a job."""
        return dict(re.findall(r"(\w+)=(\S*)", self.command("scontrol", "--oneliner", "show", "job", number)))

    def wait_for_nodes(self) -> None:
        """Wait until every node takes jobs."""
        shown = ("sinfo", "-h", "-p", "usual", "-o", "%D %t")
        wait_until(lambda: self.command(*shown).strip() == f"{len(NODES)} idle", "nodes are idle")

    def start_node(self, name: str) -> None:
        """Switch a machine on."""
        machine = _machine(name, self.folder)
        self.nodes[name] = machine
        number = NODES.index(name) + 1
        self._network("link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns", str(machine.pid))
        self._network("link", "set", f"p{number}", "master", "br0", "up")
        _call(machine, "mount", "-t", "tmpfs", "tmpfs", str(self.local))
        _call(machine, "ip", "addr", "add", f"10.231.7.{number}/24", "dev", "eth0")
        _call(machine, "ip", "link", "set", "eth0", "up")
        _daemon(machine, self.folder, "slurmd", "-D", "-N", name, "-f", str(self.folder / "slurm.conf"))

    def _network(self, *command: str) -> None:
        # not with the machine's own view of processes: `netns` names one by the number that we know
        subprocess.run(["nsenter", f"--net=/proc/{self.control.pid}/ns/net", "ip", *command], env=_env(), check=True)


@contextlib.contextmanager
def running_slurm(folder: Path) -> Iterator[Slurm]:
    """Start a controller and two nodes in a folder, and end them with the context."""
    local = folder / "local"
    for path in (local, folder / "state"):
        path.mkdir()
    nodes = "\n".join(
        f"NodeName={name} NodeAddr=10.231.7.{number} CPUs={_CPUS} RealMemory=8000"
        for number, name in enumerate(NODES, 1)
    )
    (folder / "slurm.conf").write_text(_CONFIG.format(folder=folder, nodes=nodes))
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    with contextlib.ExitStack() as running:
        control = _machine("control", folder)
        running.callback(control.stop)
        slurm = Slurm(folder, local, control)
        running.callback(lambda: [node.stop() for node in slurm.nodes.values()])
        files = [f"--{what}={folder}/munge.{what.partition('-')[0]}" for what in ("key-file", "socket", "pid-file")]
        _daemon(
            control, folder, "munged", "--foreground", "--force", *files, f"--log-file={folder}/munge.log",
            f"--seed-file={folder}/munge.seed",
        )  # fmt: skip
        _call(control, "ip", "link", "add", "br0", "type", "bridge")
        _call(control, "ip", "addr", "add", "10.231.7.254/24", "dev", "br0")
        _call(control, "ip", "link", "set", "br0", "up")
        wait_until((folder / "munge.socket").exists, "munged is there")
        _daemon(control, folder, "slurmctld", "-D", "-f", str(folder / "slurm.conf"))
        for name in NODES:
            slurm.start_node(name)
        slurm.wait_for_nodes()
        yield slurm


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


def _machine(name: str, folder: Path) -> Machine:
    spaces = ("--net", "--uts", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc")
    keeper = subprocess.Popen(["unshare", *spaces, "sleep", "infinity"], env=_env(), cwd=folder)
    children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children")
    wait_until(lambda: bool(children.read_text().split()), f"{name} is there")
    machine = Machine(name, keeper, int(children.read_text().split()[0]))
    _call(machine, "hostname", name)
    _call(machine, "ip", "link", "set", "lo", "up")
    return machine


def _call(machine: Machine, *command: str) -> None:
    subprocess.run(machine.inside(*command), env=_env(), check=True)


def _daemon(machine: Machine, folder: Path, *command: str) -> None:
    with (folder / f"{machine.name}-{command[0]}.out").open("wb") as out:
        running = subprocess.Popen(
            machine.inside(*command), stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=_env()
        )
    machine.daemons.append(running)


def _env() -> dict[str, str]:
    return {**os.environ, "PATH": _PATH}
