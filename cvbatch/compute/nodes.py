"""What a cluster consists of, now: nodes come late, and go."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from cvbatch.config import Job
from cvbatch.errors import HaltError, UsageError
from cvbatch.sections import ComputeConfig, StageConfig

_POLL_SECONDS: Final = 1.0
_PATIENCE: Final = 600.0
"""Seconds to wait for a first node that can work, where nothing else is asked for."""
_GROWN: Final = 1.25
_NODE_RESOURCES: Final = ("memory", "object_store_memory")


@dataclass(frozen=True, slots=True)
class Node:
    """One node of Ray; several may share a machine."""

    address: str
    cpus: float
    gpus: float = 0.0
    host: str = ""
    resources: Mapping[str, float] | None = None
    """Custom ones."""
    labels: Mapping[str, str] | None = None

    def may(self, stage: StageConfig) -> bool:
        """Whether a stage may run here."""
        there, labels = self.resources or {}, self.labels or {}
        return all(there.get(name, 0) >= amount for name, amount in stage.resources.items()) and all(
            labels.get(name) == value for name, value in stage.selector().items()
        )


@dataclass(frozen=True, slots=True)
class Cluster:
    """What there is to work with."""

    nodes: tuple[Node, ...]
    local: bool
    """Whether this process started it, on this machine alone."""
    object_store_bytes: int

    @property
    def cpus(self) -> float:
        """Logical CPUs."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """GPUs."""
        return sum(node.gpus for node in self.nodes)

    @property
    def machines(self) -> int:
        """Machines, by their addresses."""
        return len({node.address for node in self.nodes})

    def to_json(self) -> dict[str, Any]:
        """Plain data for the run record."""
        return {**asdict(self), "cpus": self.cpus, "gpus": self.gpus}


def look(*, local: bool) -> Cluster:
    """The nodes that live now; Ray must be connected."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    return Cluster(
        nodes=tuple(map(_node, alive)),
        local=local,
        object_store_bytes=int(sum(node["Resources"].get("object_store_memory", 0) for node in alive)),
    )


def with_workers(cluster: Cluster, compute: ComputeConfig) -> Cluster:
    """Wait until there is a node that can work: an autoscaler begins with none, and is told here what is wanted.

    Args:
        cluster: As it is.
        compute: `wait_for_nodes` says for how long, and that a GPU is worth it.

    Returns:
        The cluster as it is then.

    Raises:
        HaltError: If none came in time.
    """
    wants_gpu = compute.device == "cuda" and compute.wait_for_nodes is not None

    def ready(now: Cluster) -> bool:
        return now.cpus > 0 and (now.gpus > 0 or not wants_gpu)

    if cluster.local or ready(cluster):
        return cluster
    from ray.autoscaler.sdk import request_resources

    patience = compute.wait_for_nodes or _PATIENCE
    deadline = time.monotonic() + patience
    count = 1 if compute.num_actors == "auto" else compute.num_actors
    request_resources(bundles=[{"GPU": 1} if wants_gpu else {"CPU": 1}] * count)
    try:
        while not ready(cluster := look(local=False)):
            if time.monotonic() > deadline:
                missing = "GPU" if wants_gpu and cluster.cpus else "CPU for us"
                raise HaltError(
                    f"the cluster has {len(cluster.nodes)} node(s) and no {missing}, and none has come in "
                    f"{patience:.0f} s; look at its autoscaler, or raise compute.wait_for_nodes"
                )
            time.sleep(_POLL_SECONDS)
    finally:
        request_resources(bundles=[])  # from here on the tasks themselves say what they need
    return cluster


class Growth:
    """Watches whether a cluster has become so much larger that sharing it out anew is worth a pause.

    Args:
        cluster: As it was shared out.
        every: Seconds between two looks.
        settled: Seconds for which nothing may have changed: nodes seldom come alone.
    """

    def __init__(self, cluster: Cluster, *, every: float = 15.0, settled: float = 60.0) -> None:
        self.latest = cluster
        self._sized = cluster
        self._every, self._settled = every, settled
        self._looked = self._changed = time.monotonic()

    @property
    def worth_it(self) -> bool:
        """Whether there is a quarter more of GPUs or CPUs than before, and has been for a while."""
        now = time.monotonic()
        if not self._sized.local and now - self._looked >= self._every:
            self._looked = now
            latest = look(local=False)
            if latest != self.latest:
                self.latest, self._changed = latest, now
        grown = self.latest.gpus >= _GROWN * self._sized.gpus > 0 or (
            self.latest.gpus >= self._sized.gpus and self.latest.cpus >= _GROWN * self._sized.cpus
        )
        return grown and now - self._changed >= self._settled


def check_reach(cluster: Cluster, job: Job) -> None:
    """Refuse paths on a disk that not all machines see.

    Raises:
        UsageError: Naming the first such path.
    """
    paths = job.local_paths()
    if paths and cluster.machines > 1 and not job.compute.shared_filesystem:
        raise UsageError(
            f"{paths[0]} is a path on a disk, and the cluster has {cluster.machines} machines: use a bucket, or say "
            "--shared-filesystem if all of them see the same files under this path"
        )


def _node(found: Mapping[str, Any]) -> Node:
    resources = found["Resources"]
    custom = {
        name: amount
        for name, amount in resources.items()
        if name not in ("CPU", "GPU", *_NODE_RESOURCES) and not name.startswith(("node:", "accelerator_type:"))
    }
    return Node(
        address=found["NodeManagerAddress"],
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        host=found.get("NodeManagerHostname", ""),
        resources=custom,
        labels={name: value for name, value in found.get("Labels", {}).items() if name != "ray.io/node-id"},
    )
