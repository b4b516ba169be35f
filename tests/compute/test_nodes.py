"""What a cluster consists of, and when it has changed enough."""

from __future__ import annotations

import pytest

from cvbatch.compute import nodes
from cvbatch.compute.nodes import Changes, Cluster, Node
from cvbatch.sections import ComputeConfig, StageConfig

HEAD = Node("10.0.0.1", 0)
CPU = Node("10.0.0.2", 4, resources={"decoder": 1.0})
GPU = Node("10.0.0.3", 4, 1)
PINNED = ComputeConfig(decode=StageConfig(resources={"decoder": 0.01}))


def cluster(*there: Node, local: bool = False) -> Cluster:
    return Cluster((HEAD, *there), local=local, object_store_bytes=1 << 30)


@pytest.mark.parametrize(
    ("before", "after", "compute", "worth_it"),
    [
        pytest.param([CPU] * 4, [CPU] * 4, ComputeConfig(), False, id="nothing"),
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
def test_what_is_worth_a_pause(
    before: list[Node], after: list[Node], compute: ComputeConfig, worth_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "look", lambda *, local: cluster(*after))
    monkeypatch.setattr(nodes, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(nodes, "SETTLED_SECONDS", 0.0)
    changes = Changes(cluster(*before), compute)
    assert changes.worth_it is worth_it
    assert changes.latest == cluster(*after)
    monkeypatch.setattr(nodes, "SETTLED_SECONDS", 60.0)
    assert not changes.worth_it, "more may come"


def test_a_node_may_do_what_it_is_not_barred_from() -> None:
    assert cluster(CPU, GPU).may(PINNED.decode)
    assert not cluster(GPU).may(PINNED.decode)
    assert not cluster().may(PINNED.predict), "the head has nothing to work with"
