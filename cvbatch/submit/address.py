"""Where a cluster takes jobs, and the token that it asks for."""

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
        given: str, *, insecure: bool = False, environment: Mapping[str, str] = os.environ
    ) -> ClusterAddress:
        """Check what a person wrote, and find the token where Ray itself would look for it.

        Args:
            given: `http://host:8265`, or https.
            insecure: Whether a cluster on the network may do without a token.
            environment: In which the token is looked for.

        Raises:
            UsageError: If it is no such address, or anybody on its network could give it orders.
        """
        try:
            parts = urlsplit(given)
            host = parts.hostname if parts.scheme in ("http", "https") and parts.port != 0 else None
        except ValueError:  # half an address of IPv6, or a port that is no number
            host = None
        if not host:
            raise UsageError(f"--address: {_EXPECTED}, got {given.rpartition('@')[2]}")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise UsageError(f"--address: {_EXPECTED} and nothing more; a token belongs in RAY_AUTH_TOKEN_PATH")
        token = find_ray_token(environment)
        if parts.scheme == "http" and not token and not insecure and not _is_loopback_host(host):
            raise UsageError(
                f"--address: {parts.netloc} is on a network and there is no token, so anybody there could run code on "
                "it; start the cluster with RAY_AUTH_MODE=token and set RAY_AUTH_TOKEN_PATH here, or say --insecure"
            )
        return ClusterAddress(given.rstrip("/"), token)

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine, or forwarded from another one."""
        return _is_loopback_host(urlsplit(self.url).hostname or "")

    @property
    def request_headers(self) -> dict[str, str]:
        """What each request carries."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def find_ray_token(environment: Mapping[str, str]) -> str | None:
    """The token, from where Ray looks for it; a file of one's own that others may read is closed to them.

    Args:
        environment: `RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH`, or else `HOME` with `.ray/auth_token`.

    Raises:
        UsageError: If the file that is named cannot be read, or holds something else.
    """
    if token := environment.get("RAY_AUTH_TOKEN", "").strip():
        return token
    named = environment.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path(environment.get("HOME", "~")).expanduser() / ".ray" / "auth_token"
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        if named:
            raise UsageError(f"RAY_AUTH_TOKEN_PATH={named}: cannot be read: {error.strerror}") from None
        return None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: expected a token, a line of letters and digits, got something else") from None
    with contextlib.suppress(OSError):  # where that cannot be changed, as on a mounted secret, it is as it shall be
        found = path.stat()
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO) and found.st_uid == os.getuid():
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)  # Ray itself makes it readable for everybody
    return token or None


def _is_loopback_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
