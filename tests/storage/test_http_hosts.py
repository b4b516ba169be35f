"""Hosts that a job allows, in any spelling."""

from __future__ import annotations

import pytest

from cvbatch.storage.http_hosts import HttpOptions, normalize_host


@pytest.mark.parametrize(
    ("rule", "scheme", "host", "port", "allowed"),
    [
        ("example.org", "https", "example.org", 443, True),
        ("example.org", "http", "example.org", 80, True),
        ("Example.ORG.", "http", "example.org", 80, True),
        ("example.org", "https", "example.org", 8443, False),
        ("example.org", "https", "example.org", 80, False),
        ("example.org", "https", "www.example.org", 443, False),
        ("example.org", "https", "badexample.org", 443, False),
        ("example.org:8443", "https", "example.org", 8443, True),
        ("example.org:8443", "https", "example.org", 443, False),
        ("*.example.org", "https", "a.b.example.org", 443, True),
        ("*.example.org", "https", "example.org", 443, False),
        ("*.example.org", "https", "badexample.org", 443, False),
        ("*.example.org:81", "http", "a.example.org", 81, True),
        ("bücher.example", "https", "xn--bcher-kva.example", 443, True),
        ("10.0.0.7:8080", "http", "10.0.0.7", 8080, True),
        ("[::1]:8080", "http", "::1", 8080, True),
        ("[0:0:0:0:0:0:0:1]", "http", "::1", 80, True),
    ],
)
def test_rules(rule: str, scheme: str, host: str, port: int, allowed: bool) -> None:
    assert HttpOptions(("other.example", rule)).allows_host(scheme, host, port) is allowed


def test_nothing_is_allowed_by_default() -> None:
    assert not HttpOptions().allows_host("https", "example.org", 443)


@pytest.mark.parametrize("rule", ["", "*", "*.", "**.example.org", "a.*.org", ".example.org", "a..b", "exa mple.org"])
@pytest.mark.parametrize("port", ["", ":80"])
def test_names_that_no_rule_allows(rule: str, port: str) -> None:
    with pytest.raises(ValueError, match="expected hosts such as"):
        HttpOptions((f"{rule}{port}",))


@pytest.mark.parametrize(
    "rule",
    [
        "https://example.org",
        "example.org/",
        "example.org:",
        "example.org:0",
        "example.org:65536",
        "user@example.org",
        "[::1",
        "::1",
        "[fe80::1%eth0]",
    ],
)
def test_rules_that_are_not_hosts(rule: str) -> None:
    with pytest.raises(ValueError, match="expected hosts such as"):
        HttpOptions((rule,))


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("EXAMPLE.org", "example.org"),
        ("example.org.", "example.org"),
        ("example。org", "example.org"),
        ("①②⑦.0.0.1", "127.0.0.1"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("a_b.example", "a_b.example"),
    ],
)
def test_hosts_have_one_spelling(text: str, normal: str) -> None:
    assert normalize_host(text) == normal


@pytest.mark.parametrize("text", ["", ".", "a" * 64, "a." * 130, "a/b", "a@b", "a:1", "-a", "a\\b", "a%2eb", "a\nb"])
def test_texts_that_are_not_hosts(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds, which nobody tells apart
        normalize_host(text)
