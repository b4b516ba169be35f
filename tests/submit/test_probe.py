"""What a cluster answers before anything is sent to it; real clusters are asked in `tests/integration`."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from cvbatch.errors import UsageError
from cvbatch.submit.address import ClusterAddress
from cvbatch.submit.probe import probe_cluster
from tests.rigs.web import Web, answer

ALIVE = {"node_ip": "10.0.0.1", "state": "ALIVE"}


def at(web: Web, token: str | None = None) -> ClusterAddress:
    return ClusterAddress(f"http://127.0.0.1:{web.port}", token)


def pages(web: Web, version: Any = "2.60.0", nodes: Any = (ALIVE,)) -> None:
    web.pages["/api/version"] = answer(json.dumps({"ray_version": version}).encode())
    web.pages["/api/v0/nodes?limit=10000"] = answer(json.dumps({"data": {"result": {"result": nodes}}}).encode())


def test_nodes_that_share_a_machine_count_once(web: Web) -> None:
    other = {"node_ip": "10.0.0.2", "state": "ALIVE"}
    pages(web, nodes=[ALIVE, ALIVE, other, {"node_ip": "10.0.0.3", "state": "DEAD"}])
    head = probe_cluster(at(web, "secret"))
    assert (head.ray_version, len(head.nodes), head.machine_count) == ("2.60.0", 3, 2)
    assert {asked.headers["Authorization"] for asked in web.asked} == {"Bearer secret"}


@pytest.mark.parametrize("version", ["2.40.0", "1.13", "none", None])
def test_an_old_ray_is_refused(web: Web, version: Any) -> None:
    pages(web, version)
    with pytest.raises(UsageError, match=rf"runs Ray {version}: expected ray>=2\.\d+; update the cluster"):
        probe_cluster(at(web))


@pytest.mark.parametrize("status", [401, 403])
def test_tokens_that_are_missing_or_wrong(web: Web, status: int) -> None:
    web.pages["/api/version"] = answer(b"Unauthorized", status)
    with pytest.raises(UsageError, match="asks for a token: set RAY_AUTH_TOKEN_PATH"):
        probe_cluster(at(web))
    with pytest.raises(UsageError, match="refuses the token: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or"):
        probe_cluster(at(web, "wrong"))


@pytest.mark.parametrize("page", [answer(b"<html>"), answer(b"[]"), answer(b"{}", 500), answer(b"", 404)])
def test_what_is_no_dashboard(web: Web, page: Any) -> None:
    web.pages["/api/version"] = page
    with pytest.raises(UsageError, match="not as Ray does: expected the dashboard of a cluster, usually on port 8265"):
        probe_cluster(at(web))


def test_a_redirect_does_not_get_the_token(web: Web) -> None:
    web.pages["/api/version"] = answer(b"", 302, f"Location: http://127.0.0.1:{web.port}/elsewhere")
    with pytest.raises(UsageError, match="status 302"):
        probe_cluster(at(web, "secret"))
    assert [asked.path for asked in web.asked] == ["/api/version"]


def test_nobody_is_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf":{port} does not answer .*is it up, and its port forwarded"):
            probe_cluster(ClusterAddress(f"http://127.0.0.1:{port}"))
