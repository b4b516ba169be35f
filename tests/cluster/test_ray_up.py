"""The files for `ray up`: Ray's own validation, and what it does not look at."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable
from functools import cache
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.files import CLUSTER, IMAGE, Json, load

CLOUDS = ("aws", "gcp")
PROVIDER = {
    "aws": {"type", "region", "use_internal_ips", "cache_stopped_nodes"},
    "gcp": {"type", "region", "availability_zone", "project_id", "use_internal_ips"},
}
"""Ray takes any key here, misspelled ones, too."""


def _strings(*names: str) -> Json:
    return {name: {"type": "string"} for name in names}


def _closed(properties: Json) -> Json:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _list(item: Json) -> Json:
    return {"type": "array", "minItems": 1, "items": item}


GCP_INSTANCE = _closed(
    {
        "machineType": {"type": "string"},
        "disks": _list(
            _closed(
                {
                    "boot": {"const": True},
                    "autoDelete": {"const": True},
                    "type": {"const": "PERSISTENT"},
                    "initializeParams": _closed(
                        {"diskSizeGb": {"type": "integer"}, **_strings("diskType", "sourceImage")}
                    ),
                }
            )
        ),
        "networkInterfaces": _list(_closed(_strings("subnetwork"))),
        "tags": _closed({"items": _list({"type": "string"})}),
        "metadata": _closed({"items": _list(_closed(_strings("key", "value")))}),
        "shieldedInstanceConfig": _closed(
            {name: {"const": True} for name in ("enableSecureBoot", "enableVtpm", "enableIntegrityMonitoring")}
        ),
        "scheduling": _closed(
            {
                "provisioningModel": {"const": "SPOT"},
                "instanceTerminationAction": {"const": "DELETE"},
                "onHostMaintenance": {"const": "TERMINATE"},
                "automaticRestart": {"const": False},
            }
        ),
        "serviceAccounts": _list(_closed({"email": {"type": "string"}, "scopes": _list({"type": "string"})})),
    }
)
"""The part of Compute Engine's `Instance` that is used here; names as in its discovery document."""


def _config(cloud: str) -> Json:
    return load(CLUSTER / f"{cloud}.yaml")


def _check(config: Json) -> None:
    """Check as `ray up` does, and then what it leaves to the cloud.

    Raises:
        ValidationError, ValueError: With what is wrong.
    """
    validate_config(prepare_config(copy.deepcopy(config)))
    cloud = config["provider"]["type"]
    unknown = config["provider"].keys() - PROVIDER[cloud]
    if unknown:
        raise ValueError(f"provider: {unknown}")
    for name, kind in config["available_node_types"].items():
        (_aws_node if cloud == "aws" else _gcp_node)(name, kind["node_config"])


@cache
def _run_instances() -> Any:
    return botocore.session.Session().get_service_model("ec2").operation_model("RunInstances").input_shape


def _aws_node(name: str, node: Json) -> None:
    # Ray chooses one of the subnets, and the number
    request = {**node, "SubnetId": node["SubnetIds"][0], "MinCount": 1, "MaxCount": 1}
    del request["SubnetIds"]
    report = ParamValidator().validate(request, _run_instances())
    if report.has_errors():
        raise ValueError(f"{name}: {report.generate_report()}")


def _gcp_node(name: str, node: Json) -> None:
    Draft202012Validator(GCP_INSTANCE).validate(node)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_and_the_cloud_take_it(cloud: str) -> None:
    _check(_config(cloud))


BROKEN: tuple[tuple[str, Callable[[Json], Any]], ...] = (
    ("aws", lambda it: it.update(idle_timeout_minute=5)),
    ("aws", lambda it: it["docker"].update(imge="x")),
    ("aws", lambda it: it.update(head_node_type="haed")),
    ("aws", lambda it: it["provider"].update(use_internal_ip=True)),
    ("aws", lambda it: it["available_node_types"]["gpu_spot"].update(min_worker=0)),
    ("aws", lambda it: _node(it).update(InstanceMarketOption={"MarketType": "spot"})),
    ("aws", lambda it: _node(it)["MetadataOptions"].update(HttpPutResponseHopLimit="2")),
    ("aws", lambda it: _node(it)["BlockDeviceMappings"][0]["Ebs"].update(Encrypt=True)),
    ("gcp", lambda it: _node(it).update(machinetype="g2-standard-8")),
    ("gcp", lambda it: _node(it)["scheduling"].update(provisioningModel="spot")),
    ("gcp", lambda it: it["provider"].update(project="x")),
    ("gcp", lambda it: it.update(setup_command=[])),
)


def _node(config: Json) -> Json:
    node: Json = config["available_node_types"]["gpu_spot"]["node_config"]
    return node


@pytest.mark.parametrize(("cloud", "mutate"), BROKEN, ids=[f"{c}-{i}" for i, (c, _) in enumerate(BROKEN)])
def test_a_typing_error_is_noticed(cloud: str, mutate: Callable[[Json], Any]) -> None:
    config = _config(cloud)
    mutate(config)
    with pytest.raises((ValidationError, ValueError)):
        _check(config)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_head_does_no_work_and_workers_come_only_when_needed(cloud: str) -> None:
    config = _config(cloud)
    kinds = config["available_node_types"]
    assert kinds.pop(config["head_node_type"])["resources"] == {"CPU": 0}
    assert kinds
    assert all(kind["min_workers"] == 0 and kind["resources"]["GPU"] for kind in kinds.values())
    assert "--num-cpus=0" in config["head_start_ray_commands"][-1]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_nothing_is_open_and_the_token_is_asked_for(cloud: str) -> None:
    config = _config(cloud)
    assert config["provider"]["use_internal_ips"] is True
    head = shlex.split(config["head_start_ray_commands"][-1])
    assert "--dashboard-host=127.0.0.1" in head
    environment = [each.split(maxsplit=1)[1] for each in config["docker"]["run_options"] if each.startswith("--env ")]
    assert "RAY_AUTH_MODE=token" in environment
    (path,) = [each.partition("=")[2] for each in environment if each.startswith("RAY_AUTH_TOKEN_PATH=")]
    assert path in config["file_mounts"]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_nothing_is_installed_that_is_not_ours(cloud: str) -> None:
    config = prepare_config(_config(cloud))
    commands = [
        command
        for key in ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
        for command in config[key]
    ]
    assert commands
    assert set(commands) == {"cvbatch --version"}
    assert config["docker"]["image"] == IMAGE


def test_aws_nodes_are_hardened() -> None:
    config = _config("aws")
    assert config["provider"]["cache_stopped_nodes"] is False
    # else Ray fills the group itself, and opens SSH to the world
    assert "security_group" not in config["provider"]
    profiles = set()
    for kind in config["available_node_types"].values():
        node = kind["node_config"]
        assert node["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
        assert node["SecurityGroupIds"]
        assert node["KeyName"], "else Ray makes a key"
        assert all(d["Ebs"]["Encrypted"] and d["Ebs"]["VolumeType"] == "gp3" for d in node["BlockDeviceMappings"])
        profiles.add(node["IamInstanceProfile"]["Arn"])
    assert len(profiles) == 2, "head and workers have different rights"
    assert _node(config)["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_gcp_nodes_are_hardened() -> None:
    config = _config("gcp")
    assert config["auth"]["ssh_private_key"], "else Ray puts a key of its own on every machine of the project"
    accounts = set()
    for kind in config["available_node_types"].values():
        node = kind["node_config"]
        assert all("accessConfigs" not in interface for interface in node["networkInterfaces"])
        assert {"key": "block-project-ssh-keys", "value": "true"} in node["metadata"]["items"]
        accounts.add(node["serviceAccounts"][0]["email"])
    assert len(accounts) == 2
    assert _node(config)["scheduling"]["provisioningModel"] == "SPOT"
