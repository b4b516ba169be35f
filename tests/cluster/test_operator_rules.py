"""Rules of the operator and errors of the schemas are noticed: each in a manifest that is broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.files import Json, cluster_spec, manifest
from tests.cluster.own_rules import ALL_RULES, broken
from tests.cluster.schemas import errors

Break = Callable[[Json], Any]


def _head(it: Json) -> Json:
    group: Json = cluster_spec(it)["headGroupSpec"]
    return group


def _worker(it: Json) -> Json:
    group: Json = cluster_spec(it)["workerGroupSpecs"][0]
    return group


def _pod(group: Json) -> Json:
    spec: Json = group["template"]["spec"]
    return spec


def _container(group: Json) -> Json:
    container: Json = _pod(group)["containers"][0]
    return container


def _rule_of_deletion(policy: str) -> Json:
    return {"deletionRules": [{"policy": policy, "condition": {"jobStatus": "SUCCEEDED", "ttlSeconds": 1}}]}


BROKEN_RULES: tuple[tuple[str, Break], ...] = (
    ("name", lambda it: it["metadata"].update(name="x" * 48)),
    ("name", lambda it: it["metadata"].update(name="2019-labels")),
    ("cluster-or-selector", lambda it: it["spec"].pop("rayClusterSpec")),
    ("ttl-needs-shutdown", lambda it: it["spec"].pop("shutdownAfterJobFinishes")),
    ("suspend-needs-shutdown", lambda it: it["spec"].update(suspend=True, shutdownAfterJobFinishes=False)),
    ("deletion-rules-or-shutdown", lambda it: it["spec"].update(deletionStrategy=_rule_of_deletion("DeleteSelf"))),
    (
        "no-delete-workers-with-autoscaling",
        lambda it: it["spec"].update(deletionStrategy=_rule_of_deletion("DeleteWorkers")),
    ),
    ("sidecar-has-no-submitter", lambda it: it["spec"].update(submissionMode="SidecarMode")),
    (
        "sidecar-head-never-restarts",
        lambda it: (it["spec"].update(submissionMode="SidecarMode"), _pod(_head(it)).update(restartPolicy="Always")),
    ),
    (
        "backoff-has-its-own-cluster",
        lambda it: it["spec"].update(backoffLimit=1, clusterSelector={"ray.io/cluster": "cvbatch"}),
    ),
    ("backoff-has-its-own-cluster", lambda it: it["spec"].update(backoffLimit=1, submissionMode="InteractiveMode")),
    ("autoscaler-v2-never-restarts", lambda it: _pod(_worker(it)).update(restartPolicy="Always")),
    (
        "autoscaler-by-option-only",
        lambda it: _container(_head(it)).update(env=[{"name": "RAY_enable_autoscaler_v2", "value": "1"}]),
    ),
    ("token-needs-ray-2.52", lambda it: cluster_spec(it).update(rayVersion="2.51.1")),
    ("job-has-no-kubernetes-tokens", lambda it: cluster_spec(it)["authOptions"].update(enableK8sTokenAuth=True)),
    ("resources-once", lambda it: _head(it).update(resources={"CPU": "0"})),
    ("labels-of-the-group", lambda it: _worker(it).update(rayStartParams={"labels": "market=spot"})),
    ("redis-by-option-only", lambda it: _head(it)["rayStartParams"].update({"redis-password": "secret"})),
    (
        "redis-by-option-only",
        lambda it: _container(_head(it)).update(env=[{"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"}]),
    ),
    ("upgrade-strategy-of-a-cluster", lambda it: cluster_spec(it).update(upgradeStrategy={"type": "Recreate"})),
    ("workers-not-suspended-by-hand", lambda it: _worker(it).update(suspend=True)),
    (
        "ray-container-first",
        lambda it: _pod(_worker(it))["containers"].insert(0, {"name": "logs", "image": "registry.example.com/logs:1"}),
    ),
    ("token", lambda it: cluster_spec(it).pop("authOptions")),
    ("token", lambda it: cluster_spec(it)["authOptions"].update(mode="disabled")),
    ("not-exposed", lambda it: _head(it).update(serviceType="LoadBalancer")),
    ("not-exposed", lambda it: _head(it).pop("serviceType")),
    ("no-second-cluster", lambda it: it["spec"].update(backoffLimit=1)),
    ("time-limits", lambda it: it["spec"].pop("activeDeadlineSeconds")),
    ("time-limits", lambda it: it["spec"].pop("preRunningDeadlineSeconds")),
    ("head-without-work", lambda it: _head(it).update(rayStartParams={})),
    ("head-without-work", lambda it: _container(_head(it))["resources"]["limits"].update(cpu="0.5")),
    ("requests-are-limits", lambda it: _container(_worker(it))["resources"]["requests"].update(memory="14Gi")),
    ("spills-to-a-disk", lambda it: _pod(_worker(it))["volumes"][0]["emptyDir"].update(medium="Memory")),
    ("spills-to-a-disk", lambda it: _pod(_head(it))["volumes"][0]["emptyDir"].pop("sizeLimit")),
    (
        "no-own-shared-memory",
        lambda it: _container(_worker(it))["volumeMounts"].append({"name": "spill", "mountPath": "/dev/shm"}),
    ),
    ("gpu-nodes-for-gpu-pods", lambda it: _pod(_worker(it)).pop("tolerations")),
    (
        "gpu-nodes-for-gpu-pods",
        lambda it: _pod(_head(it)).update(tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}]),
    ),
    ("only-the-head-asks-kubernetes", lambda it: _pod(_worker(it)).pop("automountServiceAccountToken")),
    ("only-the-head-asks-kubernetes", lambda it: _pod(_head(it)).update(automountServiceAccountToken=False)),
    ("time-to-stop", lambda it: _pod(_worker(it)).update(terminationGracePeriodSeconds=300)),
    ("time-to-stop", lambda it: _pod(_worker(it)).update(terminationGracePeriodSeconds=10)),
)


BROKEN_SCHEMAS: tuple[tuple[str, Break], ...] = (
    ("toleration", lambda it: _pod(_worker(it)).update(toleration=[])),
    ("1 is not of type 'string'", lambda it: _container(_head(it)).update(env=[{"name": "A", "value": 1}])),
    ("'yes' is not of type", lambda it: _pod(_worker(it))["securityContext"].update(runAsNonRoot="yes")),
    ("less than the minimum", lambda it: it["spec"].update(ttlSecondsAfterFinished=-1)),
    ("'Sidecar' is not one of", lambda it: it["spec"].update(submissionMode="Sidecar")),
    ("0 is not of type 'string'", lambda it: _head(it)["rayStartParams"].update({"num-cpus": 0})),
    ("volumeMount", lambda it: _container(_worker(it)).update(volumeMount=[])),
    ("entryPoint", lambda it: it["spec"].update(entryPoint="cvbatch")),
    ("'entrypoint' is a required property", lambda it: it["spec"].pop("entrypoint")),
    ("'maxReplicas' is a required property", lambda it: _worker(it).pop("maxReplicas")),
    ("'v3' is not one of", lambda it: cluster_spec(it)["autoscalerOptions"].update(version="v3")),
    ("'Token' is not one of", lambda it: cluster_spec(it)["authOptions"].update(mode="Token")),
    ("does not match", lambda it: cluster_spec(it).update(rayVersion="2.60")),
    ("does not match", lambda it: _worker(it).update(groupName="GPU_spot")),
    ("sizelimit", lambda it: _pod(_head(it))["volumes"][0]["emptyDir"].update(sizelimit="1Gi")),
    ("'ray.io/v1' was expected", lambda it: it.update(apiVersion="ray.io/v1alpha1")),
)


@pytest.mark.parametrize(("name", "mutate"), BROKEN_RULES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(BROKEN_RULES)])
def test_a_broken_rule_is_noticed(name: str, mutate: Break) -> None:
    job = manifest("RayJob")
    mutate(job)
    assert name in broken(job)


def test_every_rule_was_broken_once() -> None:
    assert {name for name, _ in BROKEN_RULES} == {rule.name for rule in ALL_RULES}
    assert all(rule.message for rule in ALL_RULES)


@pytest.mark.parametrize(("message", "mutate"), BROKEN_SCHEMAS, ids=[str(i) for i in range(len(BROKEN_SCHEMAS))])
def test_an_error_of_the_schema_is_noticed(message: str, mutate: Break) -> None:
    job = manifest("RayJob")
    mutate(job)
    assert message in "\n".join(errors(job))
