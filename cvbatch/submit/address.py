"""The address of a cluster's dashboard, and its token."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cvbatch.errors import UsageError

_EXPECTED = "expected the dashboard of a cluster, such as http://127.0.0.1:8265"


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """The dashboard of a cluster; made by `ClusterAddress.from_option`, which checks it."""

    url: str
    """Without a slash at its end."""
    token: str | None = field(default=None, repr=False)

    @staticmethod
    def from_option(
        option: str, *, insecure: bool = False, environment: Mapping[str, str] = os.environ
    ) -> ClusterAddress:
        """Check the address that a person wrote, and find the token where Ray itself looks for it.

        Args:
            option: `http://host:8265`, or https.
            insecure: Whether a cluster on the network may do without a token.
            environment: Environment variables, where the token is looked up.

        Raises:
            UsageError: It is not the address of a dashboard, or anybody on its network could run code there.
        """
        try:
            parts = urlsplit(option)
            host = parts.hostname if parts.scheme in ("http", "https") and parts.port != 0 else None
        except ValueError:  # an incomplete IPv6 address, or a port that is not a number
            host = None
        if not host:
            raise UsageError(f"--address: {_EXPECTED}, got {option.rpartition('@')[2]}")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise UsageError(f"--address: {_EXPECTED} and nothing more; a token belongs in RAY_AUTH_TOKEN_PATH")
        token = find_ray_token(environment)
        if parts.scheme == "http" and not token and not insecure and not _is_loopback_host(host):
            raise UsageError(
                f"--address: {parts.netloc} is on a network and there is no token, so anybody there could run code on "
                "it; start the cluster with RAY_AUTH_MODE=token and set RAY_AUTH_TOKEN_PATH here, or use --insecure"
            )
        return ClusterAddress(option.rstrip("/"), token)

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine; its port may be forwarded to another one."""
        return _is_loopback_host(urlsplit(self.url).hostname or "")

    @property
    def request_headers(self) -> dict[str, str]:
        """HTTP headers of each request."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def find_ray_token(environment: Mapping[str, str]) -> str | None:
    """Find the token where Ray looks for it.

    If other users can read the token file and it belongs to this user, they lose access to it.

    Args:
        environment: With `RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH`, or `HOME`, which has `.ray/auth_token`.

    Raises:
        UsageError: `RAY_AUTH_TOKEN_PATH` cannot be read, or the file does not contain a token.
    """
    if token := environment.get("RAY_AUTH_TOKEN", "").strip():
        return token
    token_path = environment.get("RAY_AUTH_TOKEN_PATH")
    path = Path(token_path) if token_path else Path(environment.get("HOME", "~")).expanduser() / ".ray" / "auth_token"
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        if token_path:
            raise UsageError(f"RAY_AUTH_TOKEN_PATH={token_path}: cannot be read: {error.strerror}") from None
        return None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: expected a token, a line of letters and digits, got something else") from None
    with contextlib.suppress(OSError):  # a mounted secret cannot be changed, and has the right mode already
        status = path.stat()
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) and status.st_uid == os.getuid():
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)  # Ray itself creates it readable for everybody
    return token or None


def _is_loopback_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
