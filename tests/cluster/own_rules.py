"""What KubeRay takes and one is sorry for later: the table of rules goes on with our own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.cluster.files import Json, pod_templates
from tests.cluster.operator_rules import RULES, Rule, groups, has_token, head, ray_container, start, workers


def _requests_are_limits(group: Json) -> bool:
    for container in group["template"]["spec"]["containers"]:
        resources: dict[str, dict[str, Any]] = container.get("resources", {})
        requests, limits = resources.get("requests", {}), resources.get("limits", {})
        if any(requests.get(name, limits[name]) != limits[name] for name in limits):
            return False
    return True


def _spills_to_a_disk(group: Json) -> bool:
    spec = group["template"]["spec"]
    disks = {
        volume["name"]
        for volume in spec.get("volumes", ())
        if "sizeLimit" in volume.get("emptyDir", {}) and volume["emptyDir"].get("medium") != "Memory"
    }
    mounts = ray_container(group["template"]).get("volumeMounts", ())
    return any(mount["mountPath"] == "/tmp/ray" and mount["name"] in disks for mount in mounts)


def _mount_paths(resource: Json) -> Iterator[str]:
    for group in groups(resource):
        for container in group["template"]["spec"]["containers"]:
            yield from (mount["mountPath"] for mount in container.get("volumeMounts", ()))


def _gpus(group: Json) -> bool:
    return "nvidia.com/gpu" in ray_container(group["template"]).get("resources", {}).get("limits", {})


def _tolerates_gpus(group: Json) -> bool:
    return any(each.get("key") == "nvidia.com/gpu" for each in group["template"]["spec"].get("tolerations", ()))


def _token_of_the_head(resource: Json) -> bool:
    for name, template in pod_templates(resource):
        mounted = template["spec"].get("automountServiceAccountToken", True)
        if mounted != (name == "head"):
            return False
    return True


def _waits_for_its_processes(group: Json) -> bool:
    seconds: int = group["template"]["spec"].get("terminationGracePeriodSeconds", 30)
    return 16 < seconds < 120


OWN_RULES = (
    Rule(
        "token",
        "authOptions.mode: token",
        has_token,
    ),
    Rule(
        "not-exposed",
        "serviceType: ClusterIP",
        lambda it: all(group.get("serviceType") == "ClusterIP" for group in head(it)),
    ),
    Rule(
        "no-second-cluster",
        "backoffLimit: 0, because a retry is a new cluster and is made for wrong requests, too",
        lambda it: it["kind"] != "RayJob" or it["spec"].get("backoffLimit", 0) == 0,
    ),
    Rule(
        "time-limits",
        "activeDeadlineSeconds and preRunningDeadlineSeconds",
        lambda it: (
            it["kind"] != "RayJob" or {"activeDeadlineSeconds", "preRunningDeadlineSeconds"} <= it["spec"].keys()
        ),
    ),
    Rule(
        "head-without-work",
        'num-cpus: "0" for the head, and a real core',
        lambda it: all(
            start(group).get("num-cpus") == "0"
            and float(ray_container(group["template"])["resources"]["limits"]["cpu"]) >= 2
            for group in head(it)
        ),
    ),
    Rule(
        "requests-are-limits",
        "requests equal to limits: KubeRay tells Ray the limits",
        lambda it: all(_requests_are_limits(group) for group in groups(it)),
    ),
    Rule(
        "spills-to-a-disk",
        "a disk emptyDir with a sizeLimit on /tmp/ray",
        lambda it: all(_spills_to_a_disk(group) for group in groups(it)),
    ),
    Rule(
        "no-own-shared-memory",
        "no volume on /dev/shm: KubeRay mounts one",
        lambda it: "/dev/shm" not in set(_mount_paths(it)),
    ),
    Rule(
        "gpu-nodes-for-gpu-pods",
        "the toleration for GPU nodes on GPU workers, and on nothing else",
        lambda it: all(_gpus(group) == _tolerates_gpus(group) for group in groups(it)),
    ),
    Rule(
        "only-the-head-asks-kubernetes",
        "automountServiceAccountToken: false but for the head",
        _token_of_the_head,
    ),
    Rule(
        "time-to-stop",
        "terminationGracePeriodSeconds of workers between 16 (ray stop) and 120 (spot notice)",
        lambda it: all(_waits_for_its_processes(group) for group in workers(it)),
    ),
)

ALL_RULES = (*RULES, *OWN_RULES)


def broken(resource: Json) -> list[str]:
    """Names of the rules that a RayJob or RayCluster breaks."""
    return [rule.name for rule in ALL_RULES if not rule.holds(resource)]
