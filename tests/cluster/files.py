"""The files of `cluster/`, as the tests here read them."""

from __future__ import annotations

import copy
import os
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
KUBERAY = CLUSTER / "kuberay"
IMAGE = "registry.example.com/cvbatch:0.1.0-ray2.60.0"

Json = dict[str, Any]


class _Strict(yaml.CSafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"{node.start_mark}: twice in one mapping: {', '.join(sorted(twice))}")
        return super().construct_mapping(node, deep)


def tool(name: str) -> str | None:
    """A program of the development extra, which lies beside Python even where that folder is not on the PATH."""
    return shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


def documents(text: str) -> list[Json]:
    """All documents of a YAML text."""
    return [each for each in yaml.load_all(text, _Strict) if each is not None]


def load(path: Path) -> Json:
    """The one document of a YAML file."""
    (document,) = documents(path.read_text(encoding="utf-8"))
    return document


@cache
def manifests() -> tuple[Json, ...]:
    """Every object that an operator gives to Kubernetes, as it lies there, without overlays; not to be changed."""
    paths = sorted(KUBERAY.rglob("*.yaml"))
    return tuple(each for path in paths if path.name != "kustomization.yaml" for each in documents(path.read_text()))


def manifest(kind: str) -> Json:
    """A copy of the one manifest of its kind."""
    (found,) = [each for each in manifests() if each["kind"] == kind]
    return copy.deepcopy(found)


def cluster_spec(resource: Json) -> Json:
    """The Ray cluster in a RayJob or a RayCluster."""
    spec: Json = resource["spec"]
    found: Json = spec if resource["kind"] == "RayCluster" else spec.get("rayClusterSpec", {})
    return found


def pod_templates(resource: Json) -> Iterator[tuple[str, Json]]:
    """All pod templates of a RayJob or a RayCluster, with their names."""
    cluster = cluster_spec(resource)
    if cluster:
        yield "head", cluster["headGroupSpec"]["template"]
        yield from ((group["groupName"], group["template"]) for group in cluster.get("workerGroupSpecs", ()))
    if "submitterPodTemplate" in resource["spec"]:
        yield "submitter", resource["spec"]["submitterPodTemplate"]
