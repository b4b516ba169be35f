"""Strict schemas for KubeRay's resources: an outer part of ours around the pod schema of Kubernetes itself."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.cluster.files import Json

_KUBERNETES = "v1.37.0-local-strict"
_KINDS = {
    "Namespace": "core.v1.Namespace",
    "ConfigMap": "core.v1.ConfigMap",
    "ServiceAccount": "core.v1.ServiceAccount",
    "NetworkPolicy": "networking.v1.NetworkPolicy",
}


def errors(resource: Json) -> list[str]:
    """What is wrong with a resource: `path: message`."""
    found = _validator(resource["kind"]).iter_errors(resource)
    return [f"{'/'.join(map(str, each.absolute_path))}: {each.message}" for each in found]


@cache
def _validator(kind: str) -> Draft202012Validator:
    registry: Registry[Json] = Registry().with_resource("k8s", DRAFT202012.create_resource(_definitions()))
    return Draft202012Validator(_schema(kind), registry=registry)


@cache
def _definitions() -> Json:
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema" / _KUBERNETES
    found: Json = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))
    return found


def _schema(kind: str) -> Json:
    if kind in _KINDS:
        return _kubernetes(f"api.{_KINDS[kind]}")
    spec = {"RayJob": _job, "RayCluster": _cluster}[kind]()
    return _object(
        {
            "apiVersion": {"const": "ray.io/v1"},
            "kind": {"const": kind},
            "metadata": _kubernetes("apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            "spec": spec,
        },
        required=("apiVersion", "kind", "metadata", "spec"),
    )


def _kubernetes(name: str) -> Json:
    return {"$ref": f"k8s#/$defs/io.k8s.{name}"}


def _object(properties: Json, *, required: tuple[str, ...] = ()) -> Json:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


_POD = _kubernetes("api.core.v1.PodTemplateSpec")
_TEXTS: Json = {"type": "object", "additionalProperties": {"type": "string"}}
_COUNT: Json = {"type": "integer", "minimum": 0}
_SECONDS: Json = {"type": "integer", "minimum": 1}
_TEXT: Json = {"type": "string", "minLength": 1}
_TRUTH: Json = {"type": "boolean"}


def _group(more: Json, *required: str) -> Json:
    return _object(
        {"template": _POD, "rayStartParams": _TEXTS, "resources": _TEXTS, "labels": _TEXTS, **more},
        required=("template", *required),
    )


def _cluster() -> Json:
    return _object(
        {
            "rayVersion": {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
            "suspend": _TRUTH,
            "enableInTreeAutoscaling": _TRUTH,
            "authOptions": _object(
                {"mode": {"enum": ["token", "disabled"]}, "secretName": _TEXT, "enableK8sTokenAuth": _TRUTH}
            ),
            "autoscalerOptions": _object(
                {
                    "version": {"enum": ["v1", "v2"]},
                    "upscalingMode": {"enum": ["Default", "Aggressive", "Conservative"]},
                    "idleTimeoutSeconds": _COUNT,
                    "image": _TEXT,
                    "imagePullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
                    "resources": _kubernetes("api.core.v1.ResourceRequirements"),
                    "securityContext": _kubernetes("api.core.v1.SecurityContext"),
                    "env": {"type": "array", "items": _kubernetes("api.core.v1.EnvVar")},
                    "volumeMounts": {"type": "array", "items": _kubernetes("api.core.v1.VolumeMount")},
                }
            ),
            "gcsFaultToleranceOptions": {"type": "object"},
            "upgradeStrategy": _object({"type": {"enum": ["Recreate", "None"]}}),
            "headGroupSpec": _group(
                {"serviceType": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, "enableIngress": _TRUTH}
            ),
            "workerGroupSpecs": {
                "type": "array",
                "items": _group(
                    {
                        "groupName": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
                        "replicas": _COUNT,
                        "minReplicas": _COUNT,
                        "maxReplicas": _COUNT,
                        "numOfHosts": _SECONDS,
                        "idleTimeoutSeconds": _COUNT,
                        "suspend": _TRUTH,
                    },
                    "groupName",
                    "minReplicas",
                    "maxReplicas",
                ),
            },
        },
        required=("rayVersion", "headGroupSpec"),
    )


def _job() -> Json:
    return _object(
        {
            "entrypoint": _TEXT,
            "entrypointNumCpus": {"type": "number"},
            "entrypointNumGpus": {"type": "number"},
            "entrypointResources": {"type": "string"},
            "runtimeEnvYAML": {"type": "string"},
            "jobId": _TEXT,
            "metadata": _TEXTS,
            "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]},
            "suspend": _TRUTH,
            "shutdownAfterJobFinishes": _TRUTH,
            "ttlSecondsAfterFinished": _COUNT,
            "activeDeadlineSeconds": _SECONDS,
            "preRunningDeadlineSeconds": _SECONDS,
            "backoffLimit": _COUNT,
            "submitterConfig": _object({"backoffLimit": _COUNT}),
            "submitterPodTemplate": _POD,
            "clusterSelector": _TEXTS,
            "deletionStrategy": _object(
                {
                    "deletionRules": {
                        "type": "array",
                        "items": _object(
                            {
                                "policy": {"enum": ["DeleteCluster", "DeleteWorkers", "DeleteSelf", "DeleteNone"]},
                                "condition": _object(
                                    {"jobStatus": {"enum": ["SUCCEEDED", "FAILED"]}, "ttlSeconds": _COUNT}
                                ),
                            },
                            required=("policy", "condition"),
                        ),
                    }
                }
            ),
            "rayClusterSpec": _cluster(),
        },
        required=("entrypoint",),
    )
