"""Where an http(s) URL leads, and whether we go there: hosts that a job lists, and addresses that are public."""

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
    "the line names an image together with a password, a token or a signature, which would stay in the predictions; "
    "name it without"
)

Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

_LETTERS: Final = "%/:=&?~#+!$,;'@()*[]|"
"""Stay as they are in a request; a percent sign, because what follows is encoded already."""
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f]|^\s|\s$")

_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure, and else public
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
    )
)
_GLOBAL: Final = IPv6Network("2000::/3")
"""Whatever IPv6 has beyond this is not public."""
_NAT64: Final = IPv6Network("64:ff9b::/96")
_INSIDE: Final[tuple[_Network, ...]] = (
    *map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8")),
    *map(IPv6Network, ("fc00::/7", "::1/128")),
)
"""What `http_private` opens."""
_SPECIAL: Final[tuple[_Network, ...]] = (
    *map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4")),
    *map(IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")),
)
"""Which Python of one version or another takes for public."""


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """A URL, taken apart and without anything secret."""

    scheme: str
    """`http` or `https`."""
    host: str
    """In its normal spelling."""
    port: int
    path: str
    """With its query, as a request wants it."""

    @staticmethod
    def parse_url(url: str) -> HttpTarget:
        """Take a URL apart.

        Raises:
            ImageError: `SecretInUri` or `InvalidUrl`; neither repeats it.
        """
        if has_secret(url):
            raise ImageError(SECRET_IN_URI, SECRET_MESSAGE)
        return _split_url(url)

    def follow_redirect(self, location: str, options: HttpOptions) -> HttpTarget:
        """Where a redirect leads, if it may be followed.

        Args:
            location: What the server says.
            options: Which hosts may be asked.

        Raises:
            ImageError: `RedirectRefused`.
        """
        try:
            to = _split_url(urljoin(f"{self.scheme}://{self._host_and_port}{self.path}", location))
        except (ImageError, ValueError):
            raise ImageError("RedirectRefused", f"{self.host} leads to a URL that cannot be used") from None
        if to.host != self.host or not options.allows_host(to.scheme, to.host, to.port):
            raise ImageError(
                "RedirectRefused",
                f"{self.host} leads to {to._host_and_port}, and only redirects within a host are followed; "
                "name that instead",
            )
        if self.scheme == "https" and to.scheme == "http":
            raise ImageError("RedirectRefused", f"{self.host} leads from https to http, which anybody could read")
        return to

    @property
    def request_url(self) -> URL:
        """As a client wants it that must not change it."""
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
                f"{self._host_and_port} is not asked for images: expected it in source.http_hosts, such as "
                f"http_hosts: [{self._host_and_port!r}]",
            )

    def resolve_addresses(self, options: HttpOptions) -> list[tuple[socket.AddressFamily, Any]]:
        """Look the host up, once: what a socket is to connect to, and nothing else.

        Raises:
            ImageError: `PrivateAddress` if any address is not public, `HostNotFound`.
            UnavailableError: If there is no answer now.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
                raise ImageError("HostNotFound", f"{self.host}: there is no such host") from None
            raise UnavailableError(f"{self.host}: the name cannot be looked up now; try again later") from None
        for *_, (address, *_) in found:
            check_address(self.host, str(address), options)
        return [(family, where) for family, _, _, _, where in found]

    def __str__(self) -> str:
        return self._host_and_port


def is_http(location: bytes) -> bool:
    """Whether a location is a URL of the web."""
    return location[:8].lower().startswith((b"http://", b"https://"))


def check_address(host: str, address: str, options: HttpOptions) -> None:
    """Refuse an address that is not to be connected to.

    Args:
        host: Whose it is; for the message.
        address: As text.
        options: Whether private networks are fine.

    Raises:
        ImageError: `PrivateAddress`.
    """
    why = why_refused(ipaddress.ip_address(address), private=options.private)
    if why is not None:
        raise ImageError("PrivateAddress", f"{host} leads to {address}, {why}")


def why_refused(address: Address, *, private: bool) -> str | None:
    """Why an address is never asked, in words; None if it is.

    Args:
        address: Also one of IPv6 that stands for one of IPv4.
        private: Whether private networks and this machine are fine.
    """
    meant = _embedded_ipv4(address)
    if meant in _METADATA:
        return "which tells machines of a cloud their credentials"
    if any(meant in network for network in _INSIDE):
        return None if private else "a private address; source.http_private: true allows that (read its warning first)"
    special = any(meant in network for network in _SPECIAL)
    special |= isinstance(meant, IPv6Address) and meant not in _GLOBAL
    special |= isinstance(address, IPv6Address) and address.sixtofour is not None  # nobody runs such relays any more
    if special or meant.is_link_local or meant.is_multicast or meant.is_reserved or meant.is_unspecified:
        return "which is no public address"
    return None if meant.is_global else "which is no public address"


def _embedded_ipv4(address: Address) -> Address:
    """The IPv4 address that one of IPv6 stands for, if it does."""
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
    path = quote(f"{parts.path or '/'}{query}", safe=_LETTERS, errors="surrogateescape")
    return HttpTarget(scheme, host, port, path)
