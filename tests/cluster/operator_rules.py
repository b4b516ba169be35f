"""What KubeRay 1.7 refuses although it fits the schema, and what it takes to our harm: a table of rules.

The operator says so only once the resource is applied. Each rule looks at one RayJob or RayCluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.cluster.files import Json, cluster_spec, pod_templates

_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LONGEST = 47
"""Characters of a name: the operator adds its own."""
_FIRST_WITH_TOKENS = (2, 52)
_START_RESOURCES = {"num-cpus", "num-gpus", "memory", "resources"}
_REDIS = {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"}


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that must hold.

    Args:
        name: Short.
        message: What is expected.
        holds: Whether a resource keeps it.
    """

    name: str
    message: str
    holds: Callable[[Json], bool]


def broken(resource: Json) -> list[str]:
    """Names of the rules that a RayJob or RayCluster breaks."""
    return [rule.name for rule in RULES if not rule.holds(resource)]


def _groups(resource: Json) -> list[Json]:
    cluster = cluster_spec(resource)
    return [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", ())] if cluster else []


def _head(resource: Json) -> list[Json]:
    """The group of the head, or none where another cluster is chosen."""
    return _groups(resource)[:1]


def _workers(resource: Json) -> list[Json]:
    return list(cluster_spec(resource).get("workerGroupSpecs", ()))


def _start(group: Json) -> Json:
    params: Json = group.get("rayStartParams", {})
    return params


def _ray_container(template: Json) -> Json:
    container: Json = template["spec"]["containers"][0]
    return container


def _environment(template: Json) -> set[str]:
    return {each["name"] for each in _ray_container(template).get("env", ())}


def _mode(resource: Json) -> str:
    return str(resource["spec"].get("submissionMode", "K8sJobMode"))


def _deletion(resource: Json) -> list[Json]:
    return list(resource["spec"].get("deletionStrategy", {}).get("deletionRules", ()))


def _scales(resource: Json) -> bool:
    return bool(cluster_spec(resource).get("enableInTreeAutoscaling"))


def _has_token(resource: Json) -> bool:
    return bool(cluster_spec(resource).get("authOptions", {}).get("mode") == "token")


def _version(resource: Json) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", cluster_spec(resource).get("rayVersion", "0")))


def _restarts(resource: Json) -> set[str]:
    groups = _groups(resource)
    return {group["template"]["spec"].get("restartPolicy", "Never") for group in groups}


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
    mounts = _ray_container(group["template"]).get("volumeMounts", ())
    return any(mount["mountPath"] == "/tmp/ray" and mount["name"] in disks for mount in mounts)


def _mount_paths(resource: Json) -> Iterator[str]:
    for group in _groups(resource):
        for container in group["template"]["spec"]["containers"]:
            yield from (mount["mountPath"] for mount in container.get("volumeMounts", ()))


def _gpus(group: Json) -> bool:
    return "nvidia.com/gpu" in _ray_container(group["template"]).get("resources", {}).get("limits", {})


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


RULES = (
    Rule(
        "name",
        f"at most {_LONGEST} characters, lower-case letters, digits and -, beginning with a letter",
        lambda it: len(it["metadata"]["name"]) <= _LONGEST and bool(_LABEL.fullmatch(it["metadata"]["name"])),
    ),
    Rule(
        "cluster-or-selector",
        "one of rayClusterSpec and clusterSelector",
        lambda it: bool(cluster_spec(it)) or "clusterSelector" in it["spec"],
    ),
    Rule(
        "ttl-needs-shutdown",
        "ttlSecondsAfterFinished only with shutdownAfterJobFinishes: true",
        lambda it: not it["spec"].get("ttlSecondsAfterFinished") or bool(it["spec"].get("shutdownAfterJobFinishes")),
    ),
    Rule(
        "suspend-needs-shutdown",
        "suspend only with shutdownAfterJobFinishes: true",
        lambda it: not it["spec"].get("suspend") or bool(it["spec"].get("shutdownAfterJobFinishes")),
    ),
    Rule(
        "deletion-rules-or-shutdown",
        "deletionRules or shutdownAfterJobFinishes, not both",
        lambda it: not (_deletion(it) and it["spec"].get("shutdownAfterJobFinishes")),
    ),
    Rule(
        "no-delete-workers-with-autoscaling",
        "no DeleteWorkers where the autoscaler decides about workers",
        lambda it: not (_scales(it) and any(rule.get("policy") == "DeleteWorkers" for rule in _deletion(it))),
    ),
    Rule(
        "sidecar-has-no-submitter",
        "SidecarMode without submitterPodTemplate, submitterConfig and clusterSelector",
        lambda it: (
            _mode(it) != "SidecarMode"
            or not {"submitterPodTemplate", "submitterConfig", "clusterSelector"} & it["spec"].keys()
        ),
    ),
    Rule(
        "sidecar-head-never-restarts",
        "SidecarMode with restartPolicy Never for the head",
        lambda it: (
            _mode(it) != "SidecarMode"
            or all(group["template"]["spec"].get("restartPolicy", "Never") == "Never" for group in _head(it))
        ),
    ),
    Rule(
        "backoff-has-its-own-cluster",
        "backoffLimit 0 with InteractiveMode or clusterSelector",
        lambda it: (
            not it["spec"].get("backoffLimit")
            or (_mode(it) != "InteractiveMode" and "clusterSelector" not in it["spec"])
        ),
    ),
    Rule(
        "autoscaler-v2-never-restarts",
        "restartPolicy Never or none with autoscaler v2",
        lambda it: (
            cluster_spec(it).get("autoscalerOptions", {}).get("version") != "v2" or _restarts(it) <= {"Never", ""}
        ),
    ),
    Rule(
        "autoscaler-by-option-only",
        "autoscalerOptions.version, not the environment variable RAY_enable_autoscaler_v2",
        lambda it: all("RAY_enable_autoscaler_v2" not in _environment(group["template"]) for group in _groups(it)),
    ),
    Rule(
        "token-needs-ray-2.52",
        "rayVersion 2.52 or later with authOptions.mode: token",
        lambda it: not _has_token(it) or _version(it)[:2] >= _FIRST_WITH_TOKENS,
    ),
    Rule(
        "job-has-no-kubernetes-tokens",
        "no enableK8sTokenAuth for a RayJob",
        lambda it: it["kind"] != "RayJob" or not cluster_spec(it).get("authOptions", {}).get("enableK8sTokenAuth"),
    ),
    Rule(
        "resources-once",
        "resources of a group in rayStartParams or in resources, not in both",
        lambda it: not any(_START_RESOURCES & _start(group).keys() and group.get("resources") for group in _groups(it)),
    ),
    Rule(
        "labels-of-the-group",
        "labels of a group in labels, not in rayStartParams",
        lambda it: not any("labels" in _start(group) for group in _groups(it)),
    ),
    Rule(
        "redis-by-option-only",
        "Redis only by gcsFaultToleranceOptions",
        lambda it: (
            not any(
                _REDIS & _environment(group["template"]) or {"redis-password", "redis-username"} & _start(group).keys()
                for group in _groups(it)
            )
        ),
    ),
    Rule(
        "upgrade-strategy-of-a-cluster",
        "upgradeStrategy only of a RayCluster",
        lambda it: it["kind"] == "RayCluster" or "upgradeStrategy" not in cluster_spec(it),
    ),
    Rule(
        "workers-not-suspended-by-hand",
        "no suspend of a worker group with the autoscaler",
        lambda it: not (_scales(it) and any(group.get("suspend") for group in _workers(it))),
    ),
    Rule(
        "ray-container-first",
        "the container with Ray before all others",
        lambda it: all(_ray_container(group["template"])["name"].startswith("ray-") for group in _groups(it)),
    ),
    # from here on ours: the operator takes these, and one is sorry later
    Rule(
        "token",
        "authOptions.mode: token",
        _has_token,
    ),
    Rule(
        "not-exposed",
        "serviceType: ClusterIP",
        lambda it: all(group.get("serviceType") == "ClusterIP" for group in _head(it)),
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
            _start(group).get("num-cpus") == "0"
            and float(_ray_container(group["template"])["resources"]["limits"]["cpu"]) >= 2
            for group in _head(it)
        ),
    ),
    Rule(
        "requests-are-limits",
        "requests equal to limits: KubeRay tells Ray the limits",
        lambda it: all(_requests_are_limits(group) for group in _groups(it)),
    ),
    Rule(
        "spills-to-a-disk",
        "a disk emptyDir with a sizeLimit on /tmp/ray",
        lambda it: all(_spills_to_a_disk(group) for group in _groups(it)),
    ),
    Rule(
        "no-own-shared-memory",
        "no volume on /dev/shm: KubeRay mounts one",
        lambda it: "/dev/shm" not in set(_mount_paths(it)),
    ),
    Rule(
        "gpu-nodes-for-gpu-pods",
        "the toleration for GPU nodes on GPU workers, and on nothing else",
        lambda it: all(_gpus(group) == _tolerates_gpus(group) for group in _groups(it)),
    ),
    Rule(
        "only-the-head-asks-kubernetes",
        "automountServiceAccountToken: false but for the head",
        _token_of_the_head,
    ),
    Rule(
        "time-to-stop",
        "terminationGracePeriodSeconds of workers between 16 (ray stop) and 120 (spot notice)",
        lambda it: all(_waits_for_its_processes(group) for group in _workers(it)),
    ),
)
