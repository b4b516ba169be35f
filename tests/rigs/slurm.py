"""A real Slurm of two machines, which are namespaces on this one."""

from __future__ import annotations

import contextlib
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.rigs import machines
from tests.rigs.machines import BRIDGE, Machine, Network, running_network, wait_until

NEEDED: Final = ("slurmctld", "slurmd", "munged", "sbatch", *machines.NEEDED)
NODES: Final = ("n1", "n2")
_CPUS: Final = 2
_CONFIG: Final = """
ClusterName=tests
SlurmctldHost=switch({address})
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
    return machines.why_not(NEEDED)


@dataclass(frozen=True)
class Slurm:
    """A running cluster.

    Args:
        folder: Of its daemons.
        network: Of the machines where jobs run; the controller is on its switch, and jobs are submitted there.
    """

    folder: Path
    network: Network
    nodes: dict[str, Machine] = field(default_factory=dict)
    """Where jobs run."""

    @property
    def local(self) -> Path:
        """A folder that is another one on each machine."""
        return self.network.local

    def command(self, *command: str, cwd: Path | None = None, more: dict[str, str] | None = None) -> str:
        """Run a client of Slurm on the control machine; what it wrote."""
        done = subprocess.run(
            self.network.switch.inside(*command, cwd=cwd or self.folder),
            env={**machines.environment(), "SLURM_CONF": str(self.folder / "slurm.conf"), **(more or {})},
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
        self.nodes[name] = self.network.add(name, NODES.index(name) + 1)
        _start(self.nodes[name], self.folder, "slurmd", "-D", "-N", name, "-f", str(self.folder / "slurm.conf"))


@contextlib.contextmanager
def running_slurm(folder: Path) -> Iterator[Slurm]:
    """Start a controller and two nodes in a folder, and end them with the context."""
    (folder / "state").mkdir()
    nodes = "\n".join(
        f"NodeName={name} NodeAddr=10.231.7.{number} CPUs={_CPUS} RealMemory=8000"
        for number, name in enumerate(NODES, 1)
    )
    (folder / "slurm.conf").write_text(_CONFIG.format(folder=folder, address=BRIDGE, nodes=nodes))
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    with running_network(folder) as network:
        slurm, control = Slurm(folder, network), network.switch
        files = [f"--{what}={folder}/munge.{what.partition('-')[0]}" for what in ("key-file", "socket", "pid-file")]
        _start(
            control, folder, "munged", "--foreground", "--force", *files, f"--log-file={folder}/munge.log",
            f"--seed-file={folder}/munge.seed",
        )  # fmt: skip
        wait_until((folder / "munge.socket").exists, "munged is there")
        _start(control, folder, "slurmctld", "-D", "-f", str(folder / "slurm.conf"))
        for name in NODES:
            slurm.start_node(name)
        slurm.wait_for_nodes()
        yield slurm


def _start(machine: Machine, folder: Path, *command: str) -> None:
    machine.daemon(folder / f"{machine.name}-{command[0]}.out", *command)
