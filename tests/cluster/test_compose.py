"""The cluster on one machine: the specification of Compose, and what it leaves open."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from compose_spec import PyCompose

from tests.cluster.files import CLUSTER, IMAGE, Json, load

RAY_SERVICES = ("head", "worker")
SAID_IN_THE_FILE = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/run/secrets/ray_token"}


def _compose() -> Json:
    found = load(CLUSTER / "compose.yaml")
    del found["x-ray"]  # what it is for is where it is used
    return found


def _check(compose: Json) -> None:
    """Check against the specification, and that every name that is used is there.

    Raises:
        ValueError: With what is wrong.
    """
    PyCompose.from_json(json.dumps(compose))
    for name, service in compose["services"].items():
        for key in ("networks", "secrets"):
            missing = set(service.get(key, ())) - compose[key].keys()
            if missing:
                raise ValueError(f"{name}: {key} {missing}")
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if not source.startswith((".", "/")) and source not in compose["volumes"]:
                raise ValueError(f"{name}: volume {source}")
        missing = set(service.get("depends_on", ())) - compose["services"].keys()
        if missing:
            raise ValueError(f"{name}: depends_on {missing}")


def faults(compose: Json) -> Iterator[str]:
    """What must not stand in the file."""
    for service in compose["services"].values():
        if any(not str(port).startswith("127.0.0.1:") for port in service.get("ports", ())):
            yield "open port"
        if service.get("network_mode") == "host" or service.get("privileged"):
            yield "host"
        if not re.search(r":[^:/]*\d", service["image"]):
            yield "image"
        if "no-new-privileges:true" not in service.get("security_opt", ()):
            yield "privileges"
        for name, value in service.get("environment", {}).items():
            if re.search(r"secret|password|token|_key", name, re.I) and not str(value).startswith("/run/secrets/"):
                yield "secret"
    for secret in compose["secrets"].values():
        if not secret.get("file", "").startswith("${CVBATCH_SECRETS:?"):
            yield "default secret"


def test_it_is_what_compose_takes() -> None:
    _check(_compose())
    assert list(faults(_compose())) == []


BROKEN: tuple[Callable[[Json], Any], ...] = (
    lambda it: it["services"]["head"].update(port=["127.0.0.1:1:1"]),
    lambda it: it["services"]["head"].update(ports=["127.0.0.1:8265:x"]),
    lambda it: it["services"]["head"].update(shm_size="big"),
    lambda it: it["services"]["head"]["depends_on"]["store"].update(condition="service_helthy"),
    lambda it: it["services"]["head"]["healthcheck"].update(retries="many"),
    lambda it: it["services"]["worker"].update(networks=["clutser"]),
    lambda it: it["services"]["worker"].update(secrets=["ray-token"]),
    lambda it: it["services"]["worker"].update(depends_on={"haed": {"condition": "service_started"}}),
    lambda it: it["services"]["store"].update(volumes=["storage:/data"]),
    lambda it: it.update(service={}),
)


@pytest.mark.parametrize("mutate", BROKEN, ids=[str(i) for i in range(len(BROKEN))])
def test_a_typing_error_is_noticed(mutate: Callable[[Json], Any]) -> None:
    compose = _compose()
    mutate(compose)
    with pytest.raises(ValueError):  # noqa: PT011 - each says something else
        _check(compose)


@pytest.mark.parametrize(
    ("fault", "mutate"),
    [
        ("open port", lambda it: it["services"]["head"].update(ports=["8265:8265"])),
        ("open port", lambda it: it["services"]["store"].update(ports=["0.0.0.0:8333:8333"])),
        ("host", lambda it: it["services"]["head"].update(network_mode="host")),
        ("image", lambda it: it["services"]["store"].update(image="chrislusf/seaweedfs:latest")),
        ("image", lambda it: it["services"]["store"].update(image="chrislusf/seaweedfs")),
        ("privileges", lambda it: it["services"]["worker"].pop("security_opt")),
        ("secret", lambda it: it["services"]["head"]["environment"].update(AWS_SECRET_ACCESS_KEY="x")),
        ("secret", lambda it: it["services"]["head"]["environment"].update(RAY_AUTH_TOKEN="x")),
        ("default secret", lambda it: it["secrets"]["ray_token"].update(file="./token")),
    ],
)
def test_something_dangerous_is_noticed(fault: str, mutate: Callable[[Json], Any]) -> None:
    compose = _compose()
    mutate(compose)
    assert fault in set(faults(compose))


@pytest.mark.parametrize("name", RAY_SERVICES)
def test_ray_asks_for_the_token_of_the_secret_and_is_not_root(name: str) -> None:
    service = _compose()["services"][name]
    assert service["image"] == IMAGE
    assert service["user"] == "1000:100"
    assert service["environment"].items() >= SAID_IN_THE_FILE.items()
    assert "ray_token" in service["secrets"]
    assert service["cap_drop"] == ["ALL"]


def test_the_head_works_not_and_the_workers_find_it() -> None:
    services = _compose()["services"]
    head, worker = (shlex.split(services[name]["command"]) for name in RAY_SERVICES)
    assert head[:3] == ["ray", "start", "--head"]
    assert "--num-cpus=0" in head
    assert "--address=head:6379" in worker
    assert "--port=6379" in head
    assert services["worker"]["deploy"]["replicas"] >= 2


def test_the_store_is_where_the_clients_look() -> None:
    services = _compose()["services"]
    assert services["head"]["environment"]["AWS_ENDPOINT_URL_S3"] == "http://store:8333"
    assert {"-s3.port=8333", "-s3.config=/run/secrets/s3.json"} <= set(services["store"]["command"])
