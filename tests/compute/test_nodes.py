"""What a cluster consists of, and waiting for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from cvbatch.compute import nodes
from cvbatch.compute.cluster import Startup
from cvbatch.compute.engine import Engine
from cvbatch.compute.nodes import Cluster, Growth, Node, check_reach, with_workers
from cvbatch.config import Job
from cvbatch.errors import HaltError, UsageError
from cvbatch.sections import ComputeConfig, StageConfig
from tests.samples import spec

A, B, GPU = Node("10.0.0.1", 4), Node("10.0.0.2", 4), Node("10.0.0.3", 4, 1)
HEAD = Node("10.0.0.9", 0)


def cluster(*found: Node, local: bool = False) -> Cluster:
    return Cluster(found, local=local, object_store_bytes=1 << 30)


def test_a_cluster_is_the_sum_of_its_nodes() -> None:
    both = cluster(A, GPU, Node("10.0.0.1", 2))
    assert (both.cpus, both.gpus, len(both.nodes), both.machines) == (10, 1, 3, 2)
    assert both.to_json()["cpus"] == 10
    assert both.to_json()["nodes"][1]["address"] == "10.0.0.3"


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
    node = Node("10.0.0.1", 4, resources={"decoder": 1}, labels={"zone": "a", "ray.io/accelerator-type": "A100"})
    assert node.may(StageConfig(**stage)) is may
    assert A.may(StageConfig(**stage)) is (stage == {})


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Lets the cluster change with each look; what the autoscaler was told is returned."""
    wishes = list[Any]()

    def changes(*looks: Cluster) -> list[Any]:
        coming = iter(looks)
        monkeypatch.setattr(nodes, "look", lambda **_: next(coming, looks[-1]))
        monkeypatch.setattr("ray.autoscaler.sdk.request_resources", lambda bundles: wishes.append(bundles))
        monkeypatch.setattr(nodes, "_POLL_SECONDS", 0.0)
        return wishes

    return changes


def test_a_cluster_that_can_work_is_not_waited_for(seen: Callable[..., list[Any]]) -> None:
    wishes = seen()
    for ready, compute in (
        (cluster(A), ComputeConfig()),
        (cluster(A), ComputeConfig(device="cuda")),  # refused with a line of its own
        (cluster(HEAD, GPU), ComputeConfig(device="cuda", wait_for_nodes="1h")),
        (cluster(HEAD, local=True), ComputeConfig()),
    ):
        assert with_workers(ready, compute) is ready
    assert wishes == []


def test_the_first_node_is_asked_for_and_waited_for(seen: Callable[..., list[Any]]) -> None:
    wishes = seen(cluster(HEAD), cluster(HEAD), cluster(HEAD, A))
    assert with_workers(cluster(HEAD), ComputeConfig()) == cluster(HEAD, A)
    assert wishes == [[{"CPU": 1}], []], "the wish is taken back, or the node would never go"


def test_as_many_gpus_are_asked_for_as_there_may_be(seen: Callable[..., list[Any]]) -> None:
    wishes = seen(cluster(HEAD, A), cluster(HEAD, A, GPU))
    compute = ComputeConfig(device="cuda", num_actors=3, wait_for_nodes="10m")
    assert with_workers(cluster(HEAD, A), compute) == cluster(HEAD, A, GPU)
    assert wishes == [[{"GPU": 1}] * 3, []]


def test_no_node_comes(seen: Callable[..., list[Any]]) -> None:
    wishes = seen(cluster(HEAD, A))
    compute = ComputeConfig(device="cuda", wait_for_nodes="0.01s")
    with pytest.raises(HaltError, match=r"2 node\(s\) and no GPU, and none has come in 0 s; .* raise comp"):
        with_workers(cluster(HEAD, A), compute)
    assert wishes[-1] == []


def test_what_only_loading_can_describe_waits_no_longer_for_a_node(seen: Callable[..., list[Any]]) -> None:
    class Connected:
        def ready(self) -> Cluster:
            return cluster(HEAD)

    seen(cluster(HEAD))
    engine = Engine.__new__(Engine)
    engine._startup = cast(Startup, Connected())
    with pytest.raises(HaltError, match="none has come in"):
        engine.probe([replace(spec(), kind="python")], ComputeConfig(wait_for_nodes="0.01s"))


class TestGrowth:
    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch: pytest.MonkeyPatch, seen: Callable[..., list[Any]]) -> None:
        self.now = 0.0
        self.seen = seen
        monkeypatch.setattr(nodes.time, "monotonic", lambda: self.now)

    def worth_it(self, growth: Growth, *at: float) -> list[bool]:
        found = []
        for self.now in at:
            found.append(growth.worth_it)
        return found

    def test_what_does_not_change_is_not_shared_out_anew(self) -> None:
        self.seen(cluster(A))
        assert not any(self.worth_it(Growth(cluster(A)), 10, 100, 1_000))

    def test_it_has_to_stay_for_a_while(self) -> None:
        self.seen(cluster(A, B))
        growth = Growth(cluster(A))
        assert self.worth_it(growth, 10, 20, 70, 81) == [False, False, False, True]
        assert growth.latest == cluster(A, B)

    def test_each_further_node_is_waited_for_anew(self) -> None:
        self.seen(cluster(A, B), cluster(A, B, GPU))
        assert self.worth_it(Growth(cluster(A)), 20, 75, 81, 136) == [False, False, False, True]

    def test_a_little_more_is_not_worth_a_pause(self) -> None:
        big = cluster(*[A] * 8)
        self.seen(cluster(*[A] * 9))
        assert not any(self.worth_it(Growth(big), 20, 100, 1_000))

    def test_one_more_gpu_is(self) -> None:
        self.seen(cluster(GPU, GPU))
        assert self.worth_it(Growth(cluster(GPU, *[A] * 20)), 20, 100) == [False, True]

    def test_a_cluster_that_shrinks_is_left_to_ray(self) -> None:
        self.seen(cluster(A))
        assert not any(self.worth_it(Growth(cluster(A, B)), 20, 100, 1_000))

    def test_a_run_alone_does_not_look(self) -> None:
        self.seen(cluster(A, B))
        assert not any(self.worth_it(Growth(cluster(A, local=True)), 20, 100))


def job(source: str, output: str, **compute: Any) -> Job:
    models = [{"model": "resnet50", "as": "own", "checkpoint": "/here/own.pth", "categories": "/here/names.txt"}]
    sections = {"source": {"uri": source}, "models": models, "output": {"uri": output}, "compute": compute}
    return Job.model_validate(sections)


def test_paths_on_a_disk_are_for_one_machine_or_a_shared_file_system() -> None:
    two, remote = cluster(A, B), "s3://box/x"
    for source, output, wrong in (("/photos", remote, "/photos"), (remote, "/labels", "/labels")):
        with pytest.raises(
            UsageError, match=rf"{wrong} is a path on a disk, and the cluster has 2 machines: .*--shared"
        ):
            check_reach(two, job(source, output))
        check_reach(two, job(source, output, shared_filesystem=True))
        check_reach(cluster(A, A), job(source, output))
    check_reach(two, job(remote, remote))
