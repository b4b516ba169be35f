"""Web hosts that images may be fetched from: none but those that a job lists."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

PORTS: Final = {"http": 80, "https": 443}
"""The usual port of each scheme."""
_NAME: Final = re.compile(r"(?!.{254})[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_RULE: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>\d{1,5}))?")
_BELOW: Final = "*."


def normalize_host(text: str) -> str:
    """A host in the one spelling that is compared: lower case, international names as `xn--`, no dot at the end.

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
        raise ValueError("no name of a host")
    return name


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Which web hosts may be asked for images.

    Raises:
        ValueError: If an entry is no host.
    """

    hosts: tuple[str, ...] = ()
    """`example.org`, `*.example.org` for all names below it, `example.org:8443` for another port than the usual one."""
    private: bool = False
    """Also those in private networks and on this machine."""

    def __post_init__(self) -> None:
        for rule in self.hosts:
            _parse_host_rule(rule)

    def allows_host(self, scheme: str, host: str, port: int) -> bool:
        """Whether a host, in its normal spelling, may be asked at a port."""
        return any(self._rule_matches(rule, scheme, host, port) for rule in self.hosts)

    @staticmethod
    def _rule_matches(rule: str, scheme: str, host: str, port: int) -> bool:
        below, name, allowed = _parse_host_rule(rule)
        if port != (PORTS[scheme] if allowed is None else allowed):
            return False
        return host.endswith(f".{name}") if below else host == name


def _parse_host_rule(rule: str) -> tuple[bool, str, int | None]:
    """Whether it stands for the names below, the host, and its port if one is written."""
    found = _RULE.fullmatch(rule.removeprefix(_BELOW))
    try:
        if found is None:
            raise ValueError
        port = None if found["port"] is None else int(found["port"])
        if port is not None and not 0 < port < 65_536:
            raise ValueError
        return rule.startswith(_BELOW), normalize_host(found["host"]), port
    except ValueError:
        raise ValueError(f"expected hosts such as example.org, *.example.org or 10.0.0.7:8080, got {rule!r}") from None
