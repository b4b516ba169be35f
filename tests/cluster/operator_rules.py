"""What KubeRay 1.7 refuses although it fits the schema: a table of rules.

The operator says so only once the resource is applied. Each rule looks at one RayJob or RayCluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.cluster.files import Json, cluster_spec

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


def groups(resource: Json) -> list[Json]:
    """The groups of a Ray cluster, the head first."""
    cluster = cluster_spec(resource)
    return [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", ())] if cluster else []


def head(resource: Json) -> list[Json]:
    """The group of the head, or none where another cluster is chosen."""
    return groups(resource)[:1]


def workers(resource: Json) -> list[Json]:
    """The groups of workers."""
    return list(cluster_spec(resource).get("workerGroupSpecs", ()))


def start(group: Json) -> Json:
    """Parameters of `ray start`."""
    params: Json = group.get("rayStartParams", {})
    return params


def ray_container(template: Json) -> Json:
    """The container that the operator takes for that of Ray."""
    container: Json = template["spec"]["containers"][0]
    return container


def _environment(template: Json) -> set[str]:
    return {each["name"] for each in ray_container(template).get("env", ())}


def _mode(resource: Json) -> str:
    return str(resource["spec"].get("submissionMode", "K8sJobMode"))


def _deletion(resource: Json) -> list[Json]:
    return list(resource["spec"].get("deletionStrategy", {}).get("deletionRules", ()))


def _scales(resource: Json) -> bool:
    return bool(cluster_spec(resource).get("enableInTreeAutoscaling"))


def has_token(resource: Json) -> bool:
    """Whether Ray asks for a token."""
    return bool(cluster_spec(resource).get("authOptions", {}).get("mode") == "token")


def _version(resource: Json) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", cluster_spec(resource).get("rayVersion", "0")))


def _restarts(resource: Json) -> set[str]:
    return {group["template"]["spec"].get("restartPolicy", "Never") for group in groups(resource)}


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
            or all(group["template"]["spec"].get("restartPolicy", "Never") == "Never" for group in head(it))
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
        lambda it: all("RAY_enable_autoscaler_v2" not in _environment(group["template"]) for group in groups(it)),
    ),
    Rule(
        "token-needs-ray-2.52",
        "rayVersion 2.52 or later with authOptions.mode: token",
        lambda it: not has_token(it) or _version(it)[:2] >= _FIRST_WITH_TOKENS,
    ),
    Rule(
        "job-has-no-kubernetes-tokens",
        "no enableK8sTokenAuth for a RayJob",
        lambda it: it["kind"] != "RayJob" or not cluster_spec(it).get("authOptions", {}).get("enableK8sTokenAuth"),
    ),
    Rule(
        "resources-once",
        "resources of a group in rayStartParams or in resources, not in both",
        lambda it: not any(_START_RESOURCES & start(group).keys() and group.get("resources") for group in groups(it)),
    ),
    Rule(
        "labels-of-the-group",
        "labels of a group in labels, not in rayStartParams",
        lambda it: not any("labels" in start(group) for group in groups(it)),
    ),
    Rule(
        "redis-by-option-only",
        "Redis only by gcsFaultToleranceOptions",
        lambda it: (
            not any(
                _REDIS & _environment(group["template"]) or {"redis-password", "redis-username"} & start(group).keys()
                for group in groups(it)
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
        lambda it: not (_scales(it) and any(group.get("suspend") for group in workers(it))),
    ),
    Rule(
        "ray-container-first",
        "the container with Ray before all others",
        lambda it: all(ray_container(group["template"])["name"].startswith("ray-") for group in groups(it)),
    ),
)
