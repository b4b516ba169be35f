"""What a cluster consists of, now: nodes come late, and go."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from cvbatch.config.compute import ComputeConfig, StageConfig
from cvbatch.config.job import Job
from cvbatch.errors import HaltError, UsageError
from cvbatch.system.control_group import memory_limit
from cvbatch.system.environment import EnvironmentNumber
from cvbatch.system.ray_compat import ACCELERATOR_RESOURCE, NODE_ID_LABEL, NODE_RESOURCE

_POLL_SECONDS: Final = 1.0
_SETTLE_SECONDS: Final = 600.0
"""Seconds to wait for a first node that can work, where nothing else is asked for."""
_LOOK_SECONDS: Final = EnvironmentNumber("CVBATCH_CLUSTER_LOOK_SECONDS", 15.0)
"""Between two looks at which nodes there are."""
_SETTLED_SECONDS: Final = EnvironmentNumber("CVBATCH_CLUSTER_SETTLED_SECONDS", 60.0)
"""For which nothing may have changed before a cluster is shared out anew: nodes seldom come or go alone."""
_REBALANCE_SHARES: Final = 1.25
_TINY_RESOURCE: Final = 0.001
_NODE_RESOURCES: Final = ("memory", "object_store_memory")


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """One node of Ray; several may share a machine."""

    address: str
    cpus: float
    gpus: float = 0.0
    host: str = ""
    resources: Mapping[str, float] | None = None
    """Custom ones."""
    labels: Mapping[str, str] | None = None

    def can_run(self, stage: StageConfig) -> bool:
        """Whether a stage may run here."""
        there, labels = self.resources or {}, self.labels or {}
        return all(there.get(name, 0) >= amount for name, amount in stage.resources.items()) and all(
            labels.get(name) == value for name, value in stage.label_selector().items()
        )


@dataclass(frozen=True, slots=True)
class Cluster:
    """What there is to work with."""

    nodes: tuple[ClusterNode, ...]
    local: bool
    """Whether this process started it, on this machine alone."""
    object_store_bytes: int
    memory_limit: int | None = None
    """Bytes that a container leaves all processes together, where this is one machine that this process started."""

    @property
    def cpus(self) -> float:
        """Logical CPUs."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """GPUs."""
        return sum(node.gpus for node in self.nodes)

    @property
    def machine_count(self) -> int:
        """Machines, by their addresses."""
        return len({node.address for node in self.nodes})

    def nodes_of(self, stage: StageConfig) -> list[ClusterNode]:
        """The nodes where a stage may run, and that have something to work with."""
        return [node for node in self.nodes if node.can_run(stage) and (node.cpus or node.gpus)]

    def can_run(self, stage: StageConfig) -> bool:
        """Whether a stage may run somewhere."""
        return bool(self.nodes_of(stage))

    def to_json(self) -> dict[str, Any]:
        """Plain data for the run record."""
        return {**asdict(self), "cpus": self.cpus, "gpus": self.gpus}


def current_cluster(*, local: bool) -> Cluster:
    """The nodes that live now; Ray must be connected."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    return Cluster(
        nodes=tuple(map(_to_cluster_node, alive)),
        local=local,
        object_store_bytes=int(sum(node["Resources"].get("object_store_memory", 0) for node in alive)),
        memory_limit=memory_limit() if local else None,
    )


def wait_for_workers(cluster: Cluster, compute: ComputeConfig, *, gpu: bool, everywhere: bool) -> Cluster:
    """Wait until there is a node that can work: an autoscaler begins with none, and is told here what is wanted.

    Args:
        cluster: As it is.
        compute: `wait_for_nodes` says for how long.
        gpu: Whether a GPU is waited for, too.
        everywhere: Whether each stage must have a node where it may run.

    Returns:
        The cluster as it is then.

    Raises:
        HaltError: If none came in time.
    """
    stages = (compute.decode, compute.predict) if everywhere else ()

    def cluster_if_ready(now: Cluster) -> bool:
        return now.cpus > 0 and (now.gpus > 0 or not gpu) and all(map(now.can_run, stages))

    if cluster.local or cluster_if_ready(cluster):
        return cluster
    from ray.autoscaler.sdk import request_resources

    patience = compute.wait_for_nodes or _SETTLE_SECONDS
    deadline = time.monotonic() + patience
    count = 1 if compute.num_actors == "auto" else compute.num_actors
    request_resources(bundles=[{"GPU": 1} if gpu else {"CPU": 1}] * count)
    try:
        while not cluster_if_ready(cluster := current_cluster(local=False)):
            if time.monotonic() > deadline:
                missing = "GPU" if gpu and cluster.cpus and not cluster.gpus else "CPU for us"
                raise HaltError(
                    f"the cluster has {len(cluster.nodes)} node(s) and no {missing}, and none has come in "
                    f"{patience:.0f} s; look at its autoscaler, or raise compute.wait_for_nodes"
                )
            time.sleep(_POLL_SECONDS)
    finally:
        request_resources(bundles=[])  # from here on the tasks themselves say what they need
    return cluster


def _look_at_ray() -> Cluster:
    return current_cluster(local=False)


class ClusterMonitor:
    """Watches whether a cluster has become so much larger or smaller that sharing it out anew is worth a pause.

    Args:
        cluster: As it was shared out.
        compute: Which of its nodes each stage may use.
        look: What there is now; by default Ray is asked.
    """

    def __init__(
        self,
        cluster: Cluster,
        compute: ComputeConfig,
        *,
        look: Callable[[], Cluster] | None = None,
    ) -> None:
        self._look = look or _look_at_ray
        self.latest = cluster
        self._sized, self._compute = cluster, compute
        self._looked = self._changed = time.monotonic()

    @property
    def should_rebalance(self) -> bool:
        """Whether there is a quarter more than before, or a fifth less, and has been for a while.

        What is lost starves the stages: processes that hold models start again on the nodes that are left, and take
        the CPUs that decoding had there.
        """
        now = time.monotonic()
        if not self._sized.local and now - self._looked >= _LOOK_SECONDS.current_value:
            self._looked = now
            latest = self._look()
            if latest != self.latest:
                self.latest, self._changed = latest, now
        return now - self._changed >= _SETTLED_SECONDS.current_value and (self._has_grown() or self._has_shrunk())

    def _has_grown(self) -> bool:
        latest, before = self.latest, self._sized
        (_, *cpus), (_, *cpus_before) = self._capacity_by_node(latest), self._capacity_by_node(before)
        more = any(
            there > then and there >= _REBALANCE_SHARES * then for there, then in zip(cpus, cpus_before, strict=True)
        )
        return latest.gpus >= _REBALANCE_SHARES * before.gpus > 0 or (latest.gpus >= before.gpus and more)

    def _has_shrunk(self) -> bool:
        latest, before = self._capacity_by_node(self.latest), self._capacity_by_node(self._sized)
        return any(there > 0 and left * _REBALANCE_SHARES <= there for left, there in zip(latest, before, strict=True))

    def _capacity_by_node(self, cluster: Cluster) -> tuple[float, ...]:
        """What would hurt if it were gone."""
        stages = (self._compute.decode, self._compute.predict)
        return cluster.gpus, *(sum(node.cpus for node in cluster.nodes_of(stage)) for stage in stages)


def pin_to_driver_node(cluster: Cluster, job: Job) -> Job:
    """The same job, where only the one machine works on it that sees its paths on a disk; others may still join.

    Raises:
        UsageError: If there are several machines already; naming the first such path.
    """
    paths = job.local_paths()
    if not paths or cluster.local or job.compute.shared_filesystem:
        return job
    if cluster.machine_count > 1:
        raise UsageError(
            f"{paths[0]} is a path on a disk, and the cluster has {cluster.machine_count} machines: use a bucket, or "
            "say --shared-filesystem if all of them see the same files under this path"
        )
    here = {f"{NODE_RESOURCE}{cluster.nodes[0].address}": _TINY_RESOURCE}
    pinned = {
        name: stage.model_copy(update={"resources": {**stage.resources, **here}})
        for name, stage in (("decode", job.compute.decode), ("predict", job.compute.predict))
    }
    return job.model_copy(update={"compute": job.compute.model_copy(update=pinned)})


def node_affinity(stage: StageConfig) -> dict[str, float]:
    """Of the resources that a stage takes, that which ties it to a machine."""
    return {name: amount for name, amount in stage.resources.items() if name.startswith(NODE_RESOURCE)}


def _to_cluster_node(found: Mapping[str, Any]) -> ClusterNode:
    resources = found["Resources"]
    custom = {
        name: amount
        for name, amount in resources.items()
        if name not in ("CPU", "GPU", *_NODE_RESOURCES) and not name.startswith(ACCELERATOR_RESOURCE)
    }
    return ClusterNode(
        address=found["NodeManagerAddress"],
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        host=found.get("NodeManagerHostname", ""),
        resources=custom,
        labels={name: value for name, value in found.get("Labels", {}).items() if name != NODE_ID_LABEL},
    )
