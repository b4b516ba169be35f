"""Parsing of URLs, and the addresses that are refused."""

from __future__ import annotations

import ipaddress
import random
import socket

import pytest

from cvbatch.errors import ImageError, UnavailableError
from cvbatch.sources.fetch.url_policy import HttpTarget, is_http, why_refused
from cvbatch.storage.http_hosts import HttpOptions
from tests.rigs.web import Names

PUBLIC = ["8.8.8.8", "203.0.114.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
INSIDE = [
    "127.0.0.1",
    "127.255.255.254",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "::ffff:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "2002:a00:1::1",
    "2002:7f00:1::",
]
NEVER = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.1.1",
    "fe80::1",
    "fec0::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "239.255.255.255",
    "ff02::1",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "192.88.99.1",
    "2001:db8::1",
    "2001::1",
    "3fff::1",
    "100::1",
    "::8.8.8.8",
    "::127.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::1",
    "2002:808:808::1",
    "5f00::1",
    "4000::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert why_refused(ipaddress.ip_address(address), private=False) is None


@pytest.mark.parametrize("address", INSIDE)
def test_private_addresses_need_an_option(address: str) -> None:
    result = ipaddress.ip_address(address)
    assert "http_private" in str(why_refused(result, private=False))
    assert why_refused(result, private=True) is None


@pytest.mark.parametrize("address", NEVER)
@pytest.mark.parametrize("private", [True, False])
def test_addresses_that_are_always_refused(address: str, private: bool) -> None:
    assert why_refused(ipaddress.ip_address(address), private=private) is not None


def test_addresses_that_python_does_not_call_public_are_refused() -> None:
    dice = random.Random(0)
    for bits in (32, 128):
        for _ in range(5000):
            number = dice.getrandbits(bits)
            address = ipaddress.IPv4Address(number) if bits == 32 else ipaddress.IPv6Address(number)
            if why_refused(address, private=False) is None:
                assert address.is_global
                assert not address.is_multicast


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://example.org", HttpTarget("http", "example.org", 80, "/")),
        ("HTTPS://Example.ORG.:8443/a?b=c#d", HttpTarget("https", "example.org", 8443, "/a?b=c")),
        ("https://example.org/a%20b/c d.jpg", HttpTarget("https", "example.org", 443, "/a%20b/c%20d.jpg")),
        ("https://example.org?x=1", HttpTarget("https", "example.org", 443, "/?x=1")),
        ("https://example.org:443/@2x.png", HttpTarget("https", "example.org", 443, "/@2x.png")),
        ("http://[::1]:80/a@b:c", HttpTarget("http", "::1", 80, "/a@b:c")),
        ("https://bücher.example/ü", HttpTarget("https", "xn--bcher-kva.example", 443, "/%C3%BC")),
    ],
)
def test_urls(url: str, target: HttpTarget) -> None:
    assert HttpTarget.parse_url(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "https:///a.jpg",
        "https://",
        "https://exa mple.org/",
        "https://example.org:0/",
        "https://example.org:65536/",
        "https://example.org:x/",
        "https://example.org\\.evil.example/",
        "https://a\nb.example/",
        "https://example.org/\r\nHost: evil.example",
        "https://example.org/\x00",
        "https://exam\tple.org/",
        " https://example.org/",
        "https://[fe80::1%25eth0]/",
        "https://[::1/",
        "ftp://example.org/",
    ],
)
def test_invalid_urls(url: str) -> None:
    with pytest.raises(ImageError) as caught:
        HttpTarget.parse_url(url)
    assert (caught.value.kind, str(caught.value)) == ("InvalidUrl", "expected a URL such as https://example.org/a.jpg")


@pytest.mark.parametrize("url", ["https://me:s3cret@example.org/", "https://example.org/a?X-Amz-Signature=s3cret"])
def test_secrets_are_not_repeated(url: str) -> None:
    with pytest.raises(ImageError) as caught:
        HttpTarget.parse_url(url)
    assert (caught.value.kind, "s3cret" in str(caught.value)) == ("SecretInUri", False)


def test_only_the_resolver_treats_numbers_as_addresses() -> None:
    """The resolved address is checked, however the host is spelled."""
    for host in ("2130706433", "0x7f.1", "127.1", "017700000001"):
        target, options = HttpTarget.parse_url(f"http://{host}/"), HttpOptions((host,))
        target.check_host(options)
        with pytest.raises(ImageError) as caught:
            target.resolve_addresses(options)
        assert caught.value.kind == "PrivateAddress"


def test_all_addresses_in_their_order(names: Names) -> None:
    names.known["images.example"] = ["8.8.8.8", "2606:4700::1111"]
    assert HttpTarget.parse_url("https://images.example/").resolve_addresses(HttpOptions()) == [
        (socket.AF_INET, ("8.8.8.8", 443)),
        (socket.AF_INET6, ("2606:4700::1111", 443, 0, 0)),
    ]


def test_a_failing_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(UnavailableError, match="the lookup of the name fails at the moment"):
        HttpTarget.parse_url("https://images.example/").resolve_addresses(HttpOptions())


@pytest.mark.parametrize(
    ("location", "is_one"), [(b"http://a", True), (b"HTTPS://a", True), (b"/http://a", False), (b"s3://a", False)]
)
def test_which_locations_are_http(location: bytes, is_one: bool) -> None:
    assert is_http(location) is is_one
