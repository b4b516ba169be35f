"""The manifests for KubeRay: schemas, the operator's rules, pod security, network policies, overlays."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from cvbatch.cli import main
from cvbatch.config import load_job
from cvbatch.locations import local_path
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
    tool,
)
from tests.cluster.operator_rules import RULES, Rule, broken
from tests.cluster.schemas import errors

RAY = ("RayJob", "RayCluster")
SIZES = ("job", "standing", "small", "large")
INSTANCE, COMPONENT, NAME = (f"app.kubernetes.io/{name}" for name in ("instance", "component", "name"))
KUBECTL = tool("kubectl")
needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed, which builds the overlays")


@cache
def _built(size: str) -> tuple[Json, ...]:
    assert KUBECTL is not None, "the tests that call this are skipped without"
    done = subprocess.run([KUBECTL, "kustomize", str(KUBERAY / size)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(documents(done.stdout))


def _of_ray(objects: tuple[Json, ...]) -> Json:
    (found,) = [each for each in objects if each["kind"] in RAY]
    return copy.deepcopy(found)


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
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
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
    assert all(local_path(uri) is None for uri in (job.source.uri, job.output.uri)), "pods share no disk"


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
    objects = _built(size)
    assert [error for each in objects for error in errors(each)] == []
    resource = _of_ray(objects)
    assert broken(resource) == []
    for _, template in pod_templates(resource):
        assert list(insecurities(template["spec"])) == []
        assert {container["image"] for container in _all(template)} == {IMAGE}
    assert {each["metadata"].get("namespace", "cvbatch") for each in objects} == {"cvbatch"}


@needs_kubectl
def test_the_small_size_needs_no_gpu() -> None:
    job = _of_ray(_built("small"))
    assert "nvidia" not in str(job)
    assert job["spec"]["entrypoint"].endswith("--set compute.device=cpu")
    assert [group["groupName"] for group in cluster_spec(job)["workerGroupSpecs"]] == ["cpu-spot"]


@needs_kubectl
def test_the_large_size_has_nodes_that_only_decode() -> None:
    gpu, cpu = cluster_spec(_of_ray(_built("large")))["workerGroupSpecs"]
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
    images = {c["image"] for _, t in pod_templates(_of_ray(tuple(documents(done.stdout)))) for c in _all(t)}
    assert images == {"own.example.com/cv:2"}


def test_patches_are_json6902_only() -> None:
    files = sorted(KUBERAY.rglob("kustomization.yaml"))
    assert len(files) == 5
    for path in files:
        for patch in load(path).get("patches", ()):
            operations = yaml.safe_load(patch["patch"])
            assert isinstance(operations, list), path
            assert all({"op", "path"} <= operation.keys() for operation in operations), path


@needs_kubectl
@pytest.mark.parametrize("size", SIZES)
def test_only_pods_of_the_same_cluster_are_let_in(size: str) -> None:
    objects = _built(size)
    labels = {name: t["metadata"]["labels"] for name, t in pod_templates(_of_ray(objects))}
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
