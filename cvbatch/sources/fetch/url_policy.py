"""Policy for http(s) URLs: only hosts that a job lists, and only public addresses."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

from yarl import URL

from cvbatch.errors import ImageError, UnavailableError
from cvbatch.storage.http_hosts import PORTS, HttpOptions, normalize_host
from cvbatch.storage.location import has_secret

SECRET_IN_URI: Final = "SecretInUri"
SECRET_MESSAGE: Final = (
    "the URI of the line contains a password, a token or a signature, which would be stored in the predictions; "
    "remove it from the URI"
)

Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

_SAFE_CHARACTERS: Final = "%/:=&?~#+!$,;'@()*[]|"
"""Not quoted in a request; includes the percent sign, as URLs are already encoded."""
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f]|^\s|\s$")

_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure; otherwise public
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
    )
)
_GLOBAL: Final = IPv6Network("2000::/3")
"""All other IPv6 addresses are not public."""
_NAT64: Final = IPv6Network("64:ff9b::/96")
_INSIDE: Final[tuple[_Network, ...]] = (
    *map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8")),
    *map(IPv6Network, ("fc00::/7", "::1/128")),
)
"""Networks that `http_private` allows."""
_SPECIAL: Final[tuple[_Network, ...]] = (
    *map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4")),
    *map(IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")),
)
"""Networks that some versions of Python treat as public."""


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """A parsed URL without secrets."""

    scheme: str
    """`http` or `https`."""
    host: str
    """Normalized."""
    port: int
    path: str
    """Path and query, quoted for a request."""

    @staticmethod
    def parse_url(url: str) -> HttpTarget:
        """Parse a URL.

        Raises:
            ImageError: `SecretInUri` or `InvalidUrl`; the messages do not contain the URL.
        """
        if has_secret(url):
            raise ImageError(SECRET_IN_URI, SECRET_MESSAGE)
        return _split_url(url)

    def follow_redirect(self, location: str, options: HttpOptions) -> HttpTarget:
        """Return the target of a redirect.

        Args:
            location: `Location` header of the response.
            options: Allowed hosts.

        Raises:
            ImageError: `RedirectRefused`, if it must not be followed.
        """
        try:
            target = _split_url(urljoin(f"{self.scheme}://{self._host_and_port}{self.path}", location))
        except (ImageError, ValueError):
            raise ImageError("RedirectRefused", f"{self.host} redirects to an invalid URL") from None
        if target.host != self.host or not options.allows_host(target.scheme, target.host, target.port):
            raise ImageError(
                "RedirectRefused",
                f"{self.host} redirects to {target._host_and_port}, but only redirects within a host are followed; "
                "use the URL there instead",
            )
        if self.scheme == "https" and target.scheme == "http":
            raise ImageError("RedirectRefused", f"{self.host} redirects from https to http, which is not encrypted")
        return target

    @property
    def request_url(self) -> URL:
        """URL that a client sends unchanged."""
        return URL(f"{self.scheme}://{self._host_and_port}{self.path}", encoded=True)

    @property
    def _host_and_port(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def check_host(self, options: HttpOptions) -> None:
        """Refuse a host that the job does not list.

        Raises:
            ImageError: `HostNotAllowed`.
        """
        if not options.allows_host(self.scheme, self.host, self.port):
            raise ImageError(
                "HostNotAllowed",
                f"{self._host_and_port} is not an allowed host: expected it in source.http_hosts, such as "
                f"http_hosts: [{self._host_and_port!r}]",
            )

    def resolve_addresses(self, options: HttpOptions) -> list[tuple[socket.AddressFamily, Any]]:
        """Look up the host once; only connect to the addresses returned here.

        Raises:
            ImageError: `PrivateAddress` if any address is not public, or `HostNotFound`.
            UnavailableError: If the lookup fails for now.
        """
        try:
            results = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
                raise ImageError("HostNotFound", f"{self.host}: no such host") from None
            raise UnavailableError(
                f"{self.host}: the lookup of the name fails at the moment; try again later"
            ) from None
        for *_, (address, *_) in results:
            check_address(self.host, str(address), options)
        return [(family, socket_address) for family, _, _, _, socket_address in results]

    def __str__(self) -> str:
        return self._host_and_port


def is_http(location: bytes) -> bool:
    """Whether a location is a URL of the web."""
    return location[:8].lower().startswith((b"http://", b"https://"))


def check_address(host: str, address: str, options: HttpOptions) -> None:
    """Refuse an address that must not be connected to.

    Args:
        host: Host with this address, for the message.
        address: Address as text.
        options: Says whether private networks are allowed.

    Raises:
        ImageError: `PrivateAddress`.
    """
    reason = why_refused(ipaddress.ip_address(address), private=options.private)
    if reason is not None:
        raise ImageError("PrivateAddress", f"{host} leads to {address}, {reason}")


def why_refused(address: Address, *, private: bool) -> str | None:
    """Reason to refuse an address, in words; None if it is allowed.

    Args:
        address: An address; an IPv6 address with an embedded IPv4 address is checked as that.
        private: Whether private networks and this machine are allowed.
    """
    effective = _embedded_ipv4(address)
    if effective in _METADATA:
        return "which serves the credentials of cloud machines"
    if any(effective in network for network in _INSIDE):
        return None if private else "a private address; source.http_private: true allows it (read its warning first)"
    is_special = any(effective in network for network in _SPECIAL)
    is_special |= isinstance(effective, IPv6Address) and effective not in _GLOBAL
    is_special |= isinstance(address, IPv6Address) and address.sixtofour is not None  # such relays are no longer in use
    if (
        is_special
        or effective.is_link_local
        or effective.is_multicast
        or effective.is_reserved
        or effective.is_unspecified
    ):
        return "which is not a public address"
    return None if effective.is_global else "which is not a public address"


def _embedded_ipv4(address: Address) -> Address:
    """The IPv4 address embedded in an IPv6 address; other addresses unchanged."""
    if not isinstance(address, IPv6Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _split_url(url: str) -> HttpTarget:
    try:
        if _FORBIDDEN.search(url):
            raise ValueError("control characters, which urlsplit would drop")
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        if scheme not in PORTS or not parts.hostname or "@" in parts.netloc:
            raise ValueError("no host")
        bracketed = f"[{parts.hostname}]" if parts.netloc.startswith("[") else parts.hostname
        port = PORTS[scheme] if parts.port is None else parts.port
        host = normalize_host(bracketed)
        if not port:
            raise ValueError("port 0")
    except ValueError:
        raise ImageError("InvalidUrl", "expected a URL such as https://example.org/a.jpg") from None
    query = f"?{parts.query}" if parts.query else ""
    path = quote(f"{parts.path or '/'}{query}", safe=_SAFE_CHARACTERS, errors="surrogateescape")
    return HttpTarget(scheme, host, port, path)
