"""Nodes of a cluster, and waiting for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from cvbatch.config.compute import ComputeConfig, StageConfig
from cvbatch.config.job import Job
from cvbatch.engine import nodes
from cvbatch.engine.nodes import (
    Cluster,
    ClusterMonitor,
    ClusterNode,
    node_affinity,
    pin_to_driver_node,
    wait_for_workers,
)
from cvbatch.engine.oom_kills import OomKillMonitor
from cvbatch.engine.starting_ray import StartingRay
from cvbatch.engine.startup import RayStartup
from cvbatch.errors import HaltError, UsageError
from cvbatch.storage.location import Location
from tests.samples import spec

A, B, GPU = ClusterNode("10.0.0.1", 4), ClusterNode("10.0.0.2", 4), ClusterNode("10.0.0.3", 4, 1)
HEAD = ClusterNode("10.0.0.9", 0)


def cluster(*members: ClusterNode, local: bool = False) -> Cluster:
    return Cluster(members, local=local, object_store_bytes=1 << 30)


def test_a_cluster_is_the_sum_of_its_nodes() -> None:
    total = cluster(A, GPU, ClusterNode("10.0.0.1", 2))
    assert (total.cpus, total.gpus, len(total.nodes), total.machine_count) == (10, 1, 3, 2)
    assert total.to_json()["cpus"] == 10
    assert total.to_json()["nodes"][1]["address"] == "10.0.0.3"


@pytest.mark.parametrize(
    ("stage", "may"),
    [
        ({}, True),
        ({"resources": {"decoder": 0.5}}, True),
        ({"resources": {"decoder": 2}}, False),
        ({"resources": {"other": 1}}, False),
        ({"labels": {"zone": "a"}}, True),
        ({"labels": {"zone": "b"}}, False),
        ({"accelerator_type": "A100"}, True),
        ({"accelerator_type": "L4"}, False),
        ({"labels": {"zone": "a"}, "accelerator_type": "L4"}, False),
    ],
)
def test_where_a_stage_may_run(stage: dict[str, Any], may: bool) -> None:
    node = ClusterNode("10.0.0.1", 4, resources={"decoder": 1}, labels={"zone": "a", "ray.io/accelerator-type": "A100"})
    assert node.can_run(StageConfig(**stage)) is may
    assert A.can_run(StageConfig(**stage)) is (stage == {})


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Replaces the cluster at each check; returns the requests to the autoscaler."""
    wishes = list[Any]()

    def changes(*looks: Cluster) -> list[Any]:
        coming = iter(looks)
        monkeypatch.setattr(nodes, "current_cluster", lambda **_: next(coming, looks[-1]))
        monkeypatch.setattr("ray.autoscaler.sdk.request_resources", lambda bundles: wishes.append(bundles))
        return wishes

    return changes


def waits(current: Cluster, compute: ComputeConfig) -> Cluster:
    waiting = compute.wait_for_nodes is not None
    return wait_for_workers(current, compute, gpu=waiting and compute.device == "cuda", everywhere=waiting)


def test_a_usable_cluster_needs_no_wait(seen: Callable[..., list[Any]]) -> None:
    wishes = seen()
    for ready, compute in (
        (cluster(A), ComputeConfig()),
        (cluster(A), ComputeConfig(device="cuda")),  # refused elsewhere with its own message
        (cluster(HEAD, GPU), ComputeConfig(device="cuda", wait_for_nodes="1h")),
        (cluster(HEAD, local=True), ComputeConfig()),
    ):
        assert waits(ready, compute) is ready
    assert wishes == []


def test_the_first_node_is_requested_and_awaited(seen: Callable[..., list[Any]]) -> None:
    wishes = seen(cluster(HEAD), cluster(HEAD), cluster(HEAD, A))
    assert waits(cluster(HEAD), ComputeConfig()) == cluster(HEAD, A)
    assert wishes == [[{"CPU": 1}], []], "the wish is taken back, or the node would never go"


def test_one_gpu_is_requested_per_actor(seen: Callable[..., list[Any]]) -> None:
    wishes = seen(cluster(HEAD, A), cluster(HEAD, A, GPU))
    compute = ComputeConfig(device="cuda", num_actors=3, wait_for_nodes="10m")
    assert waits(cluster(HEAD, A), compute) == cluster(HEAD, A, GPU)
    assert wishes == [[{"GPU": 1}] * 3, []]


def test_no_node_joins_in_time(seen: Callable[..., list[Any]]) -> None:
    wishes = seen(cluster(HEAD, A))
    compute = ComputeConfig(device="cuda", wait_for_nodes="0.01s")
    with pytest.raises(HaltError, match=r"2 node\(s\) and no GPU, and none has joined within 0 s; .* raise comp"):
        waits(cluster(HEAD, A), compute)
    assert wishes[-1] == []


def test_what_only_loading_can_describe_waits_no_longer_for_a_node(seen: Callable[..., list[Any]]) -> None:
    class Connected:
        def wait_until_ready(self) -> Cluster:
            return cluster(HEAD)

    seen(cluster(HEAD))
    starting = StartingRay(
        cast(RayStartup, Connected()), Location.from_path_or_uri("out"), OomKillMonitor([]), lambda _: None
    )
    with pytest.raises(HaltError, match="none has joined within"):
        starting.probe_models([replace(spec(), kind="python")], ComputeConfig(wait_for_nodes="0.01s"))


CPU = ClusterNode("10.0.0.2", 4, resources={"decoder": 1.0})
BARE = ClusterNode("10.0.0.4", 0, 1, resources={"models": 1.0})
ON_BARE = ComputeConfig(predict=StageConfig(resources={"models": 0.01}))
PINNED = ComputeConfig(decode=StageConfig(resources={"decoder": 0.01}))


@pytest.mark.parametrize(
    ("before", "after", "compute", "worth_it"),
    [
        pytest.param([CPU] * 4, [CPU] * 4, ComputeConfig(), False, id="nothing"),
        pytest.param([CPU, BARE], [CPU, BARE], ON_BARE, False, id="nothing, where a stage has no CPU"),
        pytest.param([CPU] * 4, [CPU] * 5, ComputeConfig(), True, id="a quarter more"),
        pytest.param([CPU] * 5, [CPU] * 6, ComputeConfig(), False, id="a fifth more"),
        pytest.param([CPU] * 5, [CPU] * 4, ComputeConfig(), True, id="a fifth less"),
        pytest.param([CPU] * 6, [CPU] * 5, ComputeConfig(), False, id="a sixth less"),
        pytest.param([CPU], [], ComputeConfig(), True, id="all gone"),
        pytest.param([CPU] * 20, [CPU] * 20 + [GPU], ComputeConfig(), False, id="a first GPU"),
        pytest.param([CPU] * 20 + [GPU], [CPU] * 20 + [GPU] * 2, ComputeConfig(), True, id="a second GPU"),
        pytest.param([CPU] * 20 + [GPU], [CPU] * 20, ComputeConfig(), True, id="the only GPU"),
        pytest.param([GPU] * 20 + [CPU], [GPU] * 20, ComputeConfig(), False, id="a node among many"),
        pytest.param([GPU] * 20 + [CPU], [GPU] * 20, PINNED, True, id="the only node of a stage"),
    ],
)
def test_changes_that_trigger_a_rebalance(
    before: list[ClusterNode],
    after: list[ClusterNode],
    compute: ComputeConfig,
    worth_it: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CVBATCH_CLUSTER_LOOK_SECONDS", "0")
    monkeypatch.setenv("CVBATCH_CLUSTER_SETTLED_SECONDS", "0")
    changes = ClusterMonitor(cluster(HEAD, *before), compute, get_cluster=lambda: cluster(HEAD, *after))
    assert changes.should_rebalance is worth_it
    assert changes.latest == cluster(HEAD, *after)
    monkeypatch.setenv("CVBATCH_CLUSTER_SETTLED_SECONDS", "60")
    assert not changes.should_rebalance, "more may come"


def test_a_stage_runs_where_its_requirements_are_met() -> None:
    assert cluster(HEAD, CPU, GPU).can_run(PINNED.decode)
    assert not cluster(HEAD, GPU).can_run(PINNED.decode)
    assert not cluster(HEAD).can_run(PINNED.predict), "the head has nothing to work with"


def job(source: str, output: str, **compute: Any) -> Job:
    models = [{"model": "resnet50", "as": "own", "checkpoint": "/here/own.pth", "categories": "/here/names.txt"}]
    sections = {"source": {"uri": source}, "models": models, "output": {"uri": output}, "compute": compute}
    return Job.model_validate(sections)


def test_local_paths_need_one_machine_or_a_shared_file_system() -> None:
    two, remote = cluster(A, B), "s3://box/x"
    for source, output, wrong in (("/photos", remote, "/photos"), (remote, "/labels", "/labels")):
        with pytest.raises(
            UsageError, match=rf"{wrong} is a path on a disk, and the cluster has 2 machines: .*--shared"
        ):
            pin_to_driver_node(two, job(source, output))
        shared = job(source, output, shared_filesystem=True)
        assert pin_to_driver_node(two, shared) is shared
    with pytest.raises(UsageError, match=r"^/predictions is a path on a disk"):
        pin_to_driver_node(two, job(remote, remote), ["/predictions"])
    for machines, unpinned in ((two, job(remote, remote)), (cluster(A, local=True), job("/photos", "/labels"))):
        assert pin_to_driver_node(machines, unpinned) is unpinned


def test_stages_with_local_paths_are_tied_to_the_drivers_machine() -> None:
    local_job = job("/photos", "s3://box/x", decode={"resources": {"decoder": 1}})
    pinned = pin_to_driver_node(cluster(A, A), local_job).compute
    assert pinned.decode.resources == {"decoder": 1, "node:10.0.0.1": 0.001}
    assert pinned.predict.resources == {"node:10.0.0.1": 0.001}
    assert node_affinity(pinned.decode) == {"node:10.0.0.1": 0.001}
    driver_node, other_node = (
        ClusterNode(f"10.0.0.{number}", 4, resources={f"node:10.0.0.{number}": 1}) for number in (1, 2)
    )
    assert driver_node.can_run(pinned.predict)
    assert not other_node.can_run(pinned.predict)
