"""The manifests for KubeRay: schemas, the operator's rules, pod security, network policies, overlays."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cvbatch.cli.parser import main
from cvbatch.config.job_file import load_job
from cvbatch.storage.local_paths import to_local_path
from tests.cluster.files import (
    IMAGE,
    KUBERAY,
    Json,
    cluster_spec,
    documents,
    load,
    manifest,
    manifests,
    pod_templates,
)
from tests.cluster.operator_rules import Rule
from tests.cluster.overlays import KUBECTL, RAY, SIZES, built, needs_kubectl, of_ray
from tests.cluster.own_rules import ALL_RULES, broken
from tests.cluster.schemas import errors


def insecurities(spec: Json) -> Iterator[str]:
    """Why a pod does not meet the `restricted` standard."""
    pod = spec.get("securityContext", {})
    if pod.get("runAsNonRoot") is not True:
        yield "runAsNonRoot"
    if pod.get("runAsUser") == 0:
        yield "runAsUser"
    if pod.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile"
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    for volume in spec.get("volumes", ()):
        allowed = {"configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
        if not volume.keys() - {"name"} <= allowed:
            yield "volumes"
    for container in [*spec["containers"], *spec.get("initContainers", ())]:
        yield from _insecurities(container)


def _insecurities(container: Json) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if context.get("privileged"):
        yield "privileged"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()) or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "capabilities"
    if context.get("runAsNonRoot") is False or context.get("runAsUser") == 0:
        yield "runAsNonRoot"
    if any("hostPort" in port for port in container.get("ports", ())):
        yield "hostPort"


@pytest.mark.parametrize("resource", manifests(), ids=lambda it: f"{it['kind']}-{it['metadata']['name']}")
def test_manifests_fit_their_strict_schemas(resource: Json) -> None:
    assert errors(resource) == []


@pytest.mark.parametrize("kind", RAY)
@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.name)
def test_the_operator_takes_them(kind: str, rule: Rule) -> None:
    assert rule.holds(manifest(kind)), rule.message


@pytest.mark.parametrize("kind", RAY)
def test_every_pod_is_restricted(kind: str) -> None:
    templates = dict(pod_templates(manifest(kind)))
    assert {"head", "gpu-spot"} <= templates.keys()
    assert ("submitter" in templates) == (kind == "RayJob"), "KubeRay's own submitter has no security context"
    for template in templates.values():
        assert list(insecurities(template["spec"])) == []
        assert template["spec"]["securityContext"]["runAsUser"] == 1000
    assert list(_insecurities(cluster_spec(manifest(kind))["autoscalerOptions"])) == []


def _without(*path: str) -> Callable[[Json], None]:
    def change(spec: Json) -> None:
        for name in path[:-1]:
            spec = spec[name]
        del spec[path[-1]]

    return change


INSECURE: tuple[tuple[str, Callable[[Json], Any]], ...] = (
    ("runAsNonRoot", _without("securityContext", "runAsNonRoot")),
    ("runAsUser", lambda it: it["securityContext"].update(runAsUser=0)),
    ("seccompProfile", _without("securityContext", "seccompProfile")),
    ("hostNetwork", lambda it: it.update(hostNetwork=True)),
    ("volumes", lambda it: it["volumes"].append({"name": "root", "hostPath": {"path": "/"}})),
    ("allowPrivilegeEscalation", lambda it: it["containers"][0].pop("securityContext")),
    ("privileged", lambda it: it["containers"][0]["securityContext"].update(privileged=True)),
    ("capabilities", lambda it: it["containers"][0]["securityContext"]["capabilities"].update(add=["SYS_ADMIN"])),
    ("runAsNonRoot", lambda it: it["containers"][0]["securityContext"].update(runAsUser=0)),
    ("hostPort", lambda it: it["containers"][0]["ports"][0].update(hostPort=6379)),
)


@pytest.mark.parametrize(("name", "mutate"), INSECURE, ids=[f"{n}-{i}" for i, (n, _) in enumerate(INSECURE)])
def test_a_pod_that_is_not_restricted_is_noticed(name: str, mutate: Callable[[Json], Any]) -> None:
    spec = dict(pod_templates(manifest("RayJob")))["head"]["spec"]
    mutate(spec)
    assert name in set(insecurities(spec))


def test_the_namespace_enforces_it() -> None:
    assert manifest("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_there_is_one_image_and_its_ray_is_the_one_that_is_declared() -> None:
    images = {container["image"] for kind in RAY for _, it in pod_templates(manifest(kind)) for container in _all(it)}
    assert images == {IMAGE}
    for kind in RAY:
        assert IMAGE.endswith(f"-ray{cluster_spec(manifest(kind))['rayVersion']}")


def _all(template: Json) -> list[Json]:
    return [*template["spec"]["containers"], *template["spec"].get("initContainers", ())]


def test_the_job_file_is_right_and_asks_for_the_gpu(tmp_path: Path) -> None:
    data = manifest("ConfigMap")["data"]
    path = tmp_path / "job.yaml"
    path.write_text(data["job.yaml"])
    job = load_job(str(path))
    assert job.compute.device == "cuda"
    assert all(to_local_path(uri) is None for uri in (job.source.uri, job.output.uri)), "pods share no disk"


@pytest.mark.parametrize("kind", ["RayJob"])
def test_the_entry_point_starts_again_by_itself_and_finds_its_job(kind: str) -> None:
    job = manifest(kind)
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:2] == ["cvbatch", "run"]
    assert words[words.index("--retries") + 1] == "3"
    assert "--json" in words
    folder, _, name = words[2].rpartition("/")
    assert name in manifest("ConfigMap")["data"]
    for _, template in pod_templates({**job, "spec": {"rayClusterSpec": cluster_spec(job)}}):
        mounts = {mount["mountPath"]: mount["name"] for mount in _all(template)[0]["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        assert volumes[mounts[folder]]["configMap"]["name"] == manifest("ConfigMap")["metadata"]["name"]


def test_the_entry_point_is_one_that_the_command_line_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    for size in ("job", "small", "large"):
        text = (KUBERAY / size / ("rayjob.yaml" if size == "job" else "kustomization.yaml")).read_text()
        for line in re.findall(r"cvbatch run .*", text):
            assert set(re.findall(r"--[a-z-]+", line)) <= options | {"--retries"}


def test_accounts_of_the_pods_exist() -> None:
    accounts = {each["metadata"]["name"]: each for each in manifests() if each["kind"] == "ServiceAccount"}
    used = {t["spec"]["serviceAccountName"] for kind in RAY for _, t in pod_templates(manifest(kind))}
    assert used == accounts.keys()
    assert [name for name, it in accounts.items() if it["automountServiceAccountToken"]] == ["cvbatch-head"]
    assert "annotations" not in accounts["cvbatch-submitter"]["metadata"], "it needs no bucket"


@needs_kubectl
@pytest.mark.parametrize("size", SIZES)
def test_overlays_build_what_the_operator_takes(size: str) -> None:
    objects = built(size)
    assert [error for each in objects for error in errors(each)] == []
    resource = of_ray(objects)
    assert broken(resource) == []
    for _, template in pod_templates(resource):
        assert list(insecurities(template["spec"])) == []
        assert {container["image"] for container in _all(template)} == {IMAGE}
    assert {each["metadata"].get("namespace", "cvbatch") for each in objects} == {"cvbatch"}


@needs_kubectl
def test_the_small_size_needs_no_gpu() -> None:
    job = of_ray(built("small"))
    assert "nvidia" not in str(job)
    assert job["spec"]["entrypoint"].endswith("--set compute.device=cpu --set compute.num_actors=auto")
    assert [group["groupName"] for group in cluster_spec(job)["workerGroupSpecs"]] == ["cpu-spot"]


@needs_kubectl
def test_the_large_size_has_nodes_that_only_decode() -> None:
    gpu, cpu = cluster_spec(of_ray(built("large")))["workerGroupSpecs"]
    assert (gpu["groupName"], cpu["groupName"]) == ("gpu-spot", "cpu-spot")
    assert "nvidia" in str(gpu)
    assert "nvidia" not in str(cpu)
    assert gpu["maxReplicas"] == cpu["maxReplicas"] == 64


@needs_kubectl
def test_one_line_renames_the_image_everywhere(tmp_path: Path) -> None:
    shutil.copytree(KUBERAY, tmp_path / "kuberay")
    path = tmp_path / "kuberay" / "job" / "kustomization.yaml"
    path.write_text(path.read_text().replace("newTag: 0.1.0-ray2.60.0", "newName: own.example.com/cv\n    newTag: '2'"))
    assert KUBECTL is not None
    done = subprocess.run([KUBECTL, "kustomize", str(path.parent)], capture_output=True, text=True, check=True)
    images = {c["image"] for _, t in pod_templates(of_ray(tuple(documents(done.stdout)))) for c in _all(t)}
    assert images == {"own.example.com/cv:2"}


def test_patches_are_json6902_only() -> None:
    files = sorted(KUBERAY.rglob("kustomization.yaml"))
    assert len(files) == 5
    for path in files:
        for patch in load(path).get("patches", ()):
            operations = yaml.safe_load(patch["patch"])
            assert isinstance(operations, list), path
            assert all({"op", "path"} <= operation.keys() for operation in operations), path
