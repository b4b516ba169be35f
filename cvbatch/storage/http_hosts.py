"""Web hosts from which images may be fetched: only those that a job lists."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from cvbatch.system.environment import EnvironmentNumber

HTTP_TOTAL_SECONDS: Final = EnvironmentNumber("CVBATCH_HTTP_TOTAL_SECONDS", 120.0)
"""Time limit for one image, over all tries. This number and the next are here because the client is imported late, and
a run checks the numbers of imported modules before it starts."""
HTTP_PAUSE: Final = EnvironmentNumber("CVBATCH_HTTP_PAUSE", 0.5)
"""Upper limit of the first pause between two tries, in seconds; it doubles each time."""
PORTS: Final = {"http": 80, "https": 443}
"""Default port of each scheme."""
_NAME: Final = re.compile(r"(?!.{254})[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_RULE: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>\d{1,5}))?")
_WILDCARD: Final = "*."


def normalize_host(text: str) -> str:
    """Return a host in the spelling for comparisons: lower case, international names as `xn--`, no dot at the end.

    Args:
        text: A name, an IPv4 address, or an IPv6 address with or without brackets.

    Raises:
        ValueError: If it is none of these.
    """
    if text.startswith("[") or ":" in text:
        address = ipaddress.IPv6Address(text.removeprefix("[").removesuffix("]"))
        if address.scope_id is not None:
            raise ValueError("an address with a zone")
        return str(address)
    name = text.encode("idna").decode().lower().removesuffix(".")
    if not _NAME.fullmatch(name):
        raise ValueError("not a host name")
    return name


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Web hosts from which images may be fetched.

    Raises:
        ValueError: If an entry is not a host.
    """

    hosts: tuple[str, ...] = ()
    """`example.org`, `*.example.org` for all names below it, `example.org:8443` for a port other than the default."""
    private: bool = False
    """Whether hosts in private networks and on this machine are allowed."""

    def __post_init__(self) -> None:
        for rule in self.hosts:
            _parse_host_rule(rule)

    def allows_host(self, scheme: str, host: str, port: int) -> bool:
        """Whether images may be fetched from a port of a host, spelled as `normalize_host` returns it."""
        return any(self._rule_matches(rule, scheme, host, port) for rule in self.hosts)

    @staticmethod
    def _rule_matches(rule: str, scheme: str, host: str, port: int) -> bool:
        is_wildcard, name, allowed_port = _parse_host_rule(rule)
        if port != (PORTS[scheme] if allowed_port is None else allowed_port):
            return False
        return host.endswith(f".{name}") if is_wildcard else host == name


def _parse_host_rule(rule: str) -> tuple[bool, str, int | None]:
    """Return whether the rule is a wildcard, the host, and the port if the rule has one."""
    match = _RULE.fullmatch(rule.removeprefix(_WILDCARD))
    try:
        if match is None:
            raise ValueError
        port = None if match["port"] is None else int(match["port"])
        if port is not None and not 0 < port < 65_536:
            raise ValueError
        return rule.startswith(_WILDCARD), normalize_host(match["host"]), port
    except ValueError:
        raise ValueError(f"expected hosts such as example.org, *.example.org or 10.0.0.7:8080, got {rule!r}") from None
