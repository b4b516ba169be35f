"""Nodes of a cluster; they may join late and leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
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
"""Default seconds to wait for the first usable node."""
_LOOK_SECONDS: Final = EnvironmentNumber("CVBATCH_CLUSTER_LOOK_SECONDS", 15.0)
"""Seconds between two checks of the cluster's nodes."""
_SETTLED_SECONDS: Final = EnvironmentNumber("CVBATCH_CLUSTER_SETTLED_SECONDS", 60.0)
"""Seconds without a change before a rebalance: nodes rarely join or leave alone."""
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
    """Custom resources."""
    labels: Mapping[str, str] | None = None

    def can_run(self, stage: StageConfig) -> bool:
        """Whether a stage may run on this node."""
        resources, labels = self.resources or {}, self.labels or {}
        return all(resources.get(name, 0) >= amount for name, amount in stage.resources.items()) and all(
            labels.get(name) == value for name, value in stage.label_selector().items()
        )


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes and memory that are available to a run."""

    nodes: tuple[ClusterNode, ...]
    local: bool
    """Whether this process started Ray for itself, on this machine alone."""
    object_store_bytes: int
    memory_limit: int | None = None
    """Bytes that a container allows all processes together; only where `local`."""

    @property
    def cpus(self) -> float:
        """Number of logical CPUs."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """Number of GPUs."""
        return sum(node.gpus for node in self.nodes)

    @property
    def machine_count(self) -> int:
        """Number of machines, counted by address."""
        return len({node.address for node in self.nodes})

    def nodes_of(self, stage: StageConfig) -> list[ClusterNode]:
        """Nodes with CPUs or GPUs where a stage may run."""
        return [node for node in self.nodes if node.can_run(stage) and (node.cpus or node.gpus)]

    def can_run(self, stage: StageConfig) -> bool:
        """Whether a stage may run on at least one node."""
        return bool(self.nodes_of(stage))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the run record."""
        return {**asdict(self), "cpus": self.cpus, "gpus": self.gpus}


def current_cluster(*, local: bool) -> Cluster:
    """Return the nodes that are alive now; Ray must be connected."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    return Cluster(
        nodes=tuple(map(_to_cluster_node, alive)),
        local=local,
        object_store_bytes=int(sum(node["Resources"].get("object_store_memory", 0) for node in alive)),
        memory_limit=memory_limit() if local else None,
    )


def wait_for_workers(cluster: Cluster, compute: ComputeConfig, *, gpu: bool, everywhere: bool) -> Cluster:
    """Wait until the cluster has a usable node; an autoscaler, which may start with none, gets a resource request.

    Args:
        cluster: The cluster as it is now.
        compute: `wait_for_nodes` is the timeout.
        gpu: Whether to wait for a GPU, too.
        everywhere: Whether each stage must have a node where it may run.

    Returns:
        The cluster at the end of the wait.

    Raises:
        HaltError: If no usable node joins in time.
    """
    stages = (compute.decode, compute.predict) if everywhere else ()

    def cluster_if_ready(candidate: Cluster) -> bool:
        return candidate.cpus > 0 and (candidate.gpus > 0 or not gpu) and all(map(candidate.can_run, stages))

    if cluster.local or cluster_if_ready(cluster):
        return cluster
    from ray.autoscaler.sdk import request_resources

    timeout = compute.wait_for_nodes or _SETTLE_SECONDS
    deadline = time.monotonic() + timeout
    count = 1 if compute.num_actors == "auto" else compute.num_actors
    request_resources(bundles=[{"GPU": 1} if gpu else {"CPU": 1}] * count)
    try:
        while not cluster_if_ready(cluster := current_cluster(local=False)):
            if time.monotonic() > deadline:
                missing = "GPU" if gpu and cluster.cpus and not cluster.gpus else "usable CPU"
                raise HaltError(
                    f"the cluster has {len(cluster.nodes)} node(s) and no {missing}, and none has joined within "
                    f"{timeout:.0f} s; check its autoscaler, or raise compute.wait_for_nodes"
                )
            time.sleep(_POLL_SECONDS)
    finally:
        request_resources(bundles=[])  # from now on the tasks themselves request what they need
    return cluster


def _cluster_of_ray() -> Cluster:
    return current_cluster(local=False)


class ClusterMonitor:
    """Watches whether a cluster has grown or shrunk so much that a rebalance is worth a pause.

    Args:
        cluster: The cluster at the time of the last resource allocation.
        compute: Says which nodes each stage may use.
        get_cluster: Returns the cluster as it is now; by default from Ray.
    """

    def __init__(
        self,
        cluster: Cluster,
        compute: ComputeConfig,
        *,
        get_cluster: Callable[[], Cluster] | None = None,
    ) -> None:
        self._get_cluster = get_cluster or _cluster_of_ray
        self.latest = cluster
        self._planned, self._compute = cluster, compute
        self._checked_at = self._changed_at = time.monotonic()

    @property
    def should_rebalance(self) -> bool:
        """Whether capacity is a quarter larger or a fifth smaller than planned, without further changes for a while.

        Lost nodes starve the stages: actors restart on the remaining nodes, and take the CPUs of decoding there.
        """
        now = time.monotonic()
        if not self._planned.local and now - self._checked_at >= _LOOK_SECONDS.current_value:
            self._checked_at = now
            latest = self._get_cluster()
            if latest != self.latest:
                self.latest, self._changed_at = latest, now
        return now - self._changed_at >= _SETTLED_SECONDS.current_value and (self._has_grown() or self._has_shrunk())

    def _has_grown(self) -> bool:
        latest, before = self.latest, self._planned
        (_, *cpus), (_, *cpus_before) = self._capacity_by_node(latest), self._capacity_by_node(before)
        has_more_cpus = any(
            current > previous and current >= _REBALANCE_SHARES * previous
            for current, previous in zip(cpus, cpus_before, strict=True)
        )
        return latest.gpus >= _REBALANCE_SHARES * before.gpus > 0 or (latest.gpus >= before.gpus and has_more_cpus)

    def _has_shrunk(self) -> bool:
        latest, before = self._capacity_by_node(self.latest), self._capacity_by_node(self._planned)
        return any(
            previous > 0 and current * _REBALANCE_SHARES <= previous
            for current, previous in zip(latest, before, strict=True)
        )

    def _capacity_by_node(self, cluster: Cluster) -> tuple[float, ...]:
        """Capacity whose loss triggers a rebalance: GPUs, and the CPUs of each stage's nodes."""
        stages = (self._compute.decode, self._compute.predict)
        return cluster.gpus, *(sum(node.cpus for node in cluster.nodes_of(stage)) for stage in stages)


def pin_to_driver_node(cluster: Cluster, job: Job, more_paths: Sequence[str] = ()) -> Job:
    """Tie the stages of a job with local paths to the one machine that has them; machines that join later stay idle.

    Args:
        cluster: Where the job runs.
        job: Its source and its output may be local.
        more_paths: Other local paths that its stages read.

    Raises:
        UsageError: If the cluster has several machines; the message names the first local path.
    """
    paths = [*job.local_paths(), *more_paths]
    if not paths or cluster.local or job.compute.shared_filesystem:
        return job
    if cluster.machine_count > 1:
        raise UsageError(
            f"{paths[0]} is a path on a disk, and the cluster has {cluster.machine_count} machines: use a bucket, or "
            "add --shared-filesystem if all of them see the same files under this path"
        )
    driver_resource = {f"{NODE_RESOURCE}{cluster.nodes[0].address}": _TINY_RESOURCE}
    pinned = {
        name: stage.model_copy(update={"resources": {**stage.resources, **driver_resource}})
        for name, stage in (("decode", job.compute.decode), ("predict", job.compute.predict))
    }
    return job.model_copy(update={"compute": job.compute.model_copy(update=pinned)})


def node_affinity(stage: StageConfig) -> dict[str, float]:
    """Return the resources of a stage that tie it to a machine."""
    return {name: amount for name, amount in stage.resources.items() if name.startswith(NODE_RESOURCE)}


def _to_cluster_node(node: Mapping[str, Any]) -> ClusterNode:
    resources = node["Resources"]
    custom = {
        name: amount
        for name, amount in resources.items()
        if name not in ("CPU", "GPU", *_NODE_RESOURCES) and not name.startswith(ACCELERATOR_RESOURCE)
    }
    return ClusterNode(
        address=node["NodeManagerAddress"],
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        host=node.get("NodeManagerHostname", ""),
        resources=custom,
        labels={name: value for name, value in node.get("Labels", {}).items() if name != NODE_ID_LABEL},
    )
