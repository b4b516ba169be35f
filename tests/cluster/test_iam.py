"""The policies: nothing that cvbatch does not call, nothing missing of what it calls."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cvbatch.config.job_file import load_job
from tests.cluster.files import CLUSTER, ROOT, Json, load, manifest, manifests

IAM = CLUSTER / "iam"
NAMES = sorted(path.name for path in IAM.glob("*.json"))
STORAGE = ROOT / "cvbatch" / "storage"
RIGHTS: dict[str, set[str]] = {
    "client.head_bucket": set(),  # the region is in the answer to those who may not, too
    "client.list_objects_v2": {"s3:ListBucket"},
    "client.get_object": {"s3:GetObject"},
    "client.head_object": {"s3:GetObject"},
    "client.create_client": set(),
    "obstore.get": {"s3:GetObject"},
    "obstore.head": {"s3:GetObject"},
    # in parts for large files; what comes to nothing is taken back
    "obstore.put": {"s3:PutObject", "s3:AbortMultipartUpload"},
    "obstore.delete": {"s3:DeleteObject"},
    # only for the other services: S3 is listed with botocore
    "obstore.list": set(),
    "obstore.list_with_delimiter": set(),
}
"""What S3 asks for, for each call in `cvbatch/storage`."""


def _policy(name: str) -> Json:
    found: Json = json.loads((IAM / name).read_text(encoding="utf-8"))
    return found


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _calls() -> Iterator[str]:
    """Requests in the modules that talk to buckets: methods of a botocore client, functions of obstore."""
    for path in STORAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                text = ast.unparse(node.func)
                if re.fullmatch(r"(client|obstore)\.\w+", text):
                    yield text


def _actions(policy: Json) -> set[str]:
    return {action for statement in policy["Statement"] for action in _list(statement["Action"])}


def faults(policy: Json) -> Iterator[str]:
    """What no policy of ours may have."""
    if policy.get("Version") != "2012-10-17":
        yield "version"
    sids = [statement.get("Sid", "") for statement in policy["Statement"]]
    if len(set(sids)) < len(sids) or not all(re.fullmatch(r"[A-Za-z0-9]+", sid) for sid in sids):
        yield "sid"
    for statement in policy["Statement"]:
        if statement.keys() - {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}:
            yield "key"
        if statement["Effect"] != "Allow":
            yield "effect"
        if any("*" in action or ":" not in action for action in _list(statement["Action"])):
            yield "wildcard"
        if statement.get("Principal") in ("*", {"AWS": "*"}):
            yield "principal"
        reads_only = all(action.startswith("ec2:Describe") for action in _list(statement["Action"]))
        if "*" in _list(statement.get("Resource", ())) and not reads_only:
            yield "resource"


def s3_faults(policy: Json) -> Iterator[str]:
    """What leaves the two prefixes."""
    for statement in policy["Statement"]:
        actions, resources = _list(statement["Action"]), _list(statement["Resource"])
        if actions == ["s3:ListBucket"]:
            prefixes = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix", "")
            if any("/" in resource.removeprefix("arn:aws:s3:::") for resource in resources):
                yield "bucket"
            if not all(re.fullmatch(r"[\w-]+/\*", prefix) for prefix in _list(prefixes)):
                yield "prefix"
        elif not all(re.fullmatch(r"arn:aws:s3:::[\w-]+/[\w-]+/\*", resource) for resource in resources):
            yield "prefix"


@pytest.mark.parametrize("name", NAMES)
def test_policies_are_tight(name: str) -> None:
    assert list(faults(_policy(name))) == []


@pytest.mark.parametrize("name", ["s3-policy.json", "s3-policy-with-delete.json"])
def test_buckets_are_touched_below_the_two_prefixes_only(name: str) -> None:
    assert list(s3_faults(_policy(name))) == []


BROKEN: tuple[tuple[str, Callable[[Json], Any]], ...] = (
    ("version", lambda it: it.pop("Version")),
    ("sid", lambda it: it["Statement"][0].update(Sid="ReadTheSource")),
    ("key", lambda it: it["Statement"][0].update(Resources="*")),
    ("effect", lambda it: it["Statement"][0].update(Effect="allow")),
    ("wildcard", lambda it: it["Statement"][1].update(Action="s3:Get*")),
    ("resource", lambda it: it["Statement"][1].update(Resource="*")),
    ("prefix", lambda it: it["Statement"][1].update(Resource="arn:aws:s3:::archive/*")),
    ("prefix", lambda it: it["Statement"][0].pop("Condition")),
    ("prefix", lambda it: it["Statement"][0]["Condition"]["StringLike"].update({"s3:prefix": "*"})),
    ("bucket", lambda it: it["Statement"][0].update(Resource="arn:aws:s3:::archive/2019/*")),
)


@pytest.mark.parametrize(("fault", "mutate"), BROKEN, ids=[f"{f}-{i}" for i, (f, _) in enumerate(BROKEN)])
def test_a_looser_policy_is_noticed(fault: str, mutate: Callable[[Json], Any]) -> None:
    policy = _policy("s3-policy.json")
    mutate(policy)
    assert fault in {*faults(policy), *s3_faults(policy)}


def test_every_call_to_a_bucket_is_known() -> None:
    assert set(_calls()) <= RIGHTS.keys(), "say which right it needs, and whether the policies give it"
    assert {name for name, needed in RIGHTS.items() if needed} <= set(_calls())


def test_the_policies_give_what_is_called_and_nothing_else() -> None:
    needed = {right for call in set(_calls()) for right in RIGHTS[call]}
    assert _actions(_policy("s3-policy-with-delete.json")) == needed
    assert _actions(_policy("s3-policy.json")) == needed - {"s3:DeleteObject"}


def test_only_the_output_is_written_and_deleted() -> None:
    for statement in _policy("s3-policy-with-delete.json")["Statement"]:
        if {"s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"} & set(_list(statement["Action"])):
            assert _list(statement["Resource"]) == ["arn:aws:s3:::results/2019-labels/*"]


def test_the_policies_are_for_the_job_of_the_example(tmp_path: Any) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(manifest("ConfigMap")["data"]["job.yaml"])
    job = load_job(str(path))
    text = (IAM / "s3-policy.json").read_text(encoding="utf-8")
    for uri in (job.source.uri, job.output.uri):
        assert f'"arn:aws:s3:::{uri.removeprefix("s3://")}*"' in text


def test_only_the_pods_of_the_accounts_get_their_role() -> None:
    for who in ("head", "worker"):
        (statement,) = _policy(f"trust-irsa-{who}.json")["Statement"]
        issuer = statement["Principal"]["Federated"].partition("oidc-provider/")[2]
        (account,) = [it for it in manifests() if it["metadata"]["name"] == f"cvbatch-{who}"]
        subject = f"system:serviceaccount:{account['metadata']['namespace']}:{account['metadata']['name']}"
        assert statement["Condition"]["StringEquals"] == {
            f"{issuer}:aud": "sts.amazonaws.com",
            f"{issuer}:sub": subject,
        }
        role = account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
        assert role.endswith(f":role/cvbatch-{who}")


def test_the_head_may_start_and_end_the_workers_of_its_own_cluster_only() -> None:
    policy, config = _policy("ec2-head-policy.json"), load(CLUSTER / "aws.yaml")
    node = config["available_node_types"]["gpu_spot"]["node_config"]
    statements = {statement["Sid"]: statement for statement in policy["Statement"]}
    started = statements["StartWorkersOfThisCluster"]["Condition"]
    assert started["StringEquals"] == {
        "aws:RequestTag/ray-cluster-name": config["cluster_name"],
        "ec2:InstanceType": node["InstanceType"],
        "ec2:MetadataHttpTokens": node["MetadataOptions"]["HttpTokens"],
    }
    assert started["ArnEquals"] == {"ec2:InstanceProfile": node["IamInstanceProfile"]["Arn"]}
    ended = statements["TagAndEndThoseOfThisCluster"]
    assert ended["Condition"]["StringEquals"] == {"aws:ResourceTag/ray-cluster-name": config["cluster_name"]}
    passed = statements["GiveWorkersTheirRole"]
    assert passed["Resource"].endswith(":role/cvbatch-worker")
    assert passed["Condition"]["StringEquals"] == {"iam:PassedToService": "ec2.amazonaws.com"}


def test_the_head_starts_workers_with_what_stands_in_the_file_and_nothing_else() -> None:
    node = load(CLUSTER / "aws.yaml")["available_node_types"]["gpu_spot"]["node_config"]
    (with_these,) = [it for it in _policy("ec2-head-policy.json")["Statement"] if it["Sid"] == "StartThemWithThese"]
    named = {resource.rpartition(":")[2] for resource in with_these["Resource"]}
    assert named == {
        f"image/{node['ImageId']}",
        f"key-pair/{node['KeyName']}",
        *(f"security-group/{name}" for name in node["SecurityGroupIds"]),
        *(f"subnet/{name}" for name in node["SubnetIds"]),
        "network-interface/*",
        "volume/*",
    }
