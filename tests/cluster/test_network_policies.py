"""Who may talk to whom: the policies that an overlay builds, held against the labels of its pods."""

from __future__ import annotations

import pytest

from tests.cluster.files import Json, manifests, pod_templates
from tests.cluster.overlays import SIZES, built, needs_kubectl, of_ray

INSTANCE, COMPONENT, NAME = (f"app.kubernetes.io/{name}" for name in ("instance", "component", "name"))


@needs_kubectl
@pytest.mark.parametrize("size", SIZES)
def test_only_pods_of_the_same_cluster_are_let_in(size: str) -> None:
    objects = built(size)
    labels = {name: t["metadata"]["labels"] for name, t in pod_templates(of_ray(objects))}
    policies = [each["spec"] for each in objects if each["kind"] == "NetworkPolicy"]
    (instance,) = {it[INSTANCE] for name, it in labels.items() if name != "submitter"}
    for name, own in labels.items():
        let_in = [rule for policy in policies if _selects(policy["podSelector"], own) for rule in policy["ingress"]]
        closed = [p for p in policies if _selects(p["podSelector"], own) and "Egress" in p["policyTypes"]]
        assert closed, f"{name} may go anywhere"
        for rule in let_in:
            for peer in rule["from"]:
                if peer == {"podSelector": {"matchLabels": {INSTANCE: instance}}}:
                    continue
                assert rule["ports"] == [{"protocol": "TCP", "port": 8265}], peer
                assert own[COMPONENT] == "head"
    if "submitter" in labels:
        assert _reaches(policies, labels["submitter"], labels["head"], 8265)
        assert not _reaches(policies, labels["submitter"], labels["head"], 6379)
    workers = [it for name, it in labels.items() if name not in ("head", "submitter")]
    assert all(_reaches(policies, worker, labels["head"], 6379) for worker in workers)
    stranger = {INSTANCE: "another", COMPONENT: "head", NAME: "another"}
    assert not any(_reaches(policies, stranger, labels["head"], port) for port in (6379, 8265, 10001))


def _selects(selector: Json, labels: Json) -> bool:
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def _reaches(policies: list[Json], source: Json, target: Json, port: int) -> bool:
    """Whether a pod may send to another one of its namespace: both sides must allow it."""
    return _allows(policies, source, target, port, "Egress") and _allows(policies, target, source, port, "Ingress")


def _allows(policies: list[Json], own: Json, other: Json, port: int, way: str) -> bool:
    mine = [it for it in policies if _selects(it["podSelector"], own) and way in it["policyTypes"]]
    key, side = ("egress", "to") if way == "Egress" else ("ingress", "from")
    rules = [rule for it in mine for rule in it.get(key, ())]
    return not mine or any(
        any("namespaceSelector" not in peer and "podSelector" in peer and _selects(peer["podSelector"], other)
            for peer in rule[side])
        and ("ports" not in rule or any(each["port"] == port for each in rule["ports"]))
        for rule in rules
    )  # fmt: skip


def test_what_leaves_the_cluster_is_names_and_tls_but_never_the_metadata_of_an_instance() -> None:
    (policy,) = [it for it in manifests() if it["metadata"]["name"] == "cvbatch-nodes"]
    outside = [rule for rule in policy["spec"]["egress"] if "podSelector" not in rule["to"][0]]
    assert {each["port"] for rule in outside for each in rule["ports"]} == {53, 443}
    (block,) = [peer["ipBlock"] for rule in outside for peer in rule["to"] if "ipBlock" in peer]
    assert block == {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}
