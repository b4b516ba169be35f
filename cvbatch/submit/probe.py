"""Checks a cluster before anything is sent to it: Ray's own errors for wrong addresses are misleading."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import requests

from cvbatch.errors import UsageError
from cvbatch.submit.address import ClusterAddress
from cvbatch.system.ray_compat import NODES_PATH, VERSION_PATH, living_nodes
from cvbatch.system.versions import is_supported_version, package_requirement

_TIMEOUT_SECONDS: Final = 10.0
"""Time limit of one request."""


@dataclass(frozen=True, slots=True)
class ClusterHead:
    """Version and nodes of a cluster."""

    ray_version: str
    nodes: tuple[dict[str, Any], ...]
    """Living nodes, as Ray's state API describes them."""

    @property
    def machine_count(self) -> int:
        """Number of machines; several nodes may share one."""
        return len({node["node_ip"] for node in self.nodes})


def probe_cluster(address: ClusterAddress) -> ClusterHead:
    """Ask a cluster for its version and its nodes.

    Raises:
        UsageError: There is no cluster, the token is missing or wrong, or its version of Ray is not supported.
    """
    about = _get_json(address, VERSION_PATH)
    version = str(about.get("ray_version"))
    if not is_supported_version("ray", version):
        supported = package_requirement("ray").specifier
        raise UsageError(f"{address.url} runs Ray {version}: expected ray{supported}; update the cluster")
    return ClusterHead(version, living_nodes(_get_json(address, NODES_PATH)))


def _get_json(address: ClusterAddress, path: str) -> dict[str, Any]:
    try:
        # a redirect would send the token to another host
        answer = requests.get(
            address.url + path, headers=address.request_headers, timeout=_TIMEOUT_SECONDS, allow_redirects=False
        )
        content = answer.json() if answer.ok else None
    except requests.exceptions.JSONDecodeError:
        content = None
    except requests.exceptions.RequestException as error:
        raise UsageError(
            f"{address.url} does not answer ({type(error).__name__}): expected the dashboard of a Ray cluster; "
            "is it up, and its port forwarded?"
        ) from None
    if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise UsageError(_token_refusal(address))
    if not isinstance(content, dict):
        raise UsageError(
            f"{address.url} answers {path} with status {answer.status_code} and not as Ray does: expected the "
            "dashboard of a cluster, usually on port 8265"
        )
    return content


def _token_refusal(address: ClusterAddress) -> str:
    if address.token is None:
        return f"{address.url} asks for a token: set RAY_AUTH_TOKEN_PATH to the file that holds it"
    return f"{address.url} refuses the token: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token holds another"
