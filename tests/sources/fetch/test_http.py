"""Requests to web servers, and the handling of good, broken and hostile responses."""

from __future__ import annotations

import datetime
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import format_datetime
from pathlib import Path

import pytest

from cvbatch.errors import ImageError, RowError, UnavailableError, capture_row_error
from cvbatch.sources.fetch import connections, http
from cvbatch.storage.http_hosts import HttpOptions
from tests.rigs.web import Answer, Names, Say, Web, answer, make_certificate

IMAGE = b"\xff\xd8 an image"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_HTTP_PAUSE", "0")


def options(web: Web, host: str = "127.0.0.1") -> HttpOptions:
    return HttpOptions((f"{host}:{web.port}",), private=True)


def get(web: Web, path: str = "/a.jpg", *, host: str = "127.0.0.1", scheme: str = "http") -> bytes:
    return http.get_image(f"{scheme}://{host}:{web.port}{path}".encode(), options(web, host))


def refused(web: Web, path: str = "/a.jpg", **options: str) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        get(web, path, **options)
    return caught.value.kind, str(caught.value)


def unavailable(web: Web, path: str = "/a.jpg") -> str:
    result = capture_row_error("fetch", lambda: get(web, path))
    assert isinstance(result, RowError)
    assert (result.type, result.transient) == ("UnavailableError", True)
    return result.message


def test_an_image(web: Web, names: Names) -> None:
    web.pages["/my%20photos/gr%C3%B6%C3%9Fe.jpg?w=100&h=5"] = answer(IMAGE)
    assert get(web, "/my photos/größe.jpg?w=100&h=5#part", host="images.example") == IMAGE
    [asked] = web.asked
    assert asked.headers == {
        "Host": f"images.example:{web.port}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "User-Agent": "cvbatch",
    }


def test_one_lookup_and_one_connection_for_many_images(web: Web, names: Names) -> None:
    web.pages["/a.jpg"] = answer(IMAGE)
    web.pages["/chunks.jpg"] = chunked([b"one", b"two"])
    for _ in range(3):
        assert get(web, host="images.example") == IMAGE
        assert get(web, "/chunks.jpg", host="images.example") == b"onetwo"
        assert refused(web, "/gone.jpg", host="images.example")[0] == "NotFound"
    assert names.asked == ["images.example"]
    assert len({asked.connection for asked in web.asked}) == 1


def test_a_name_that_resolves_differently_the_second_time(web: Web, names: Names) -> None:
    """DNS rebinding: the client connects to the address that was checked."""
    web.pages["/a.jpg"] = answer(IMAGE, 200, "Connection: close")
    assert get(web, host="images.example") == IMAGE
    names.known["images.example"] = ["169.254.169.254"]
    assert refused(web, host="images.example")[0] == "PrivateAddress"
    assert names.asked == ["images.example"] * 2
    assert len(web.asked) == 1


def test_the_next_address_is_tried_if_the_first_does_not_respond(web: Web, names: Names) -> None:
    web.pages["/a.jpg"] = answer(IMAGE)
    names.known["images.example"] = ["127.0.0.2", "127.0.0.1"]  # no server listens at the first address
    assert get(web, host="images.example") == IMAGE


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0"])
def test_hosts_with_private_addresses_are_refused(web: Web, names: Names, address: str) -> None:
    names.known["images.example"] = ["203.0.114.7", address]  # one private address of several is enough
    with pytest.raises(ImageError, match=r"images\.example leads to") as caught:
        http.get_image(f"http://images.example:{web.port}/a.jpg".encode(), HttpOptions((f"images.example:{web.port}",)))
    assert caught.value.kind == "PrivateAddress"
    assert web.asked == []


def test_a_host_must_be_listed(web: Web) -> None:
    with pytest.raises(ImageError, match=rf"http_hosts: \['127\.0\.0\.1:{web.port}'\]") as caught:
        http.get_image(f"http://127.0.0.1:{web.port}/a.jpg?w=1".encode(), HttpOptions(private=True))
    assert caught.value.kind == "HostNotAllowed"
    assert "w=1" not in str(caught.value)
    assert web.asked == []


def test_a_host_that_does_not_exist(names: Names) -> None:
    with pytest.raises(ImageError, match="no such host") as caught:
        http.get_image(b"http://nowhere.example/a.jpg", HttpOptions(("nowhere.example",)))
    assert caught.value.kind == "HostNotFound"


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"])
def test_proxies_of_the_environment_are_not_used(web: Web, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A proxy looks up names itself, so the checks of addresses would not apply."""
    web.pages["/a.jpg"] = answer(IMAGE)
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert get(web) == IMAGE


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, "NotFound"),
        (410, "NotFound"),
        (401, "PermissionDenied"),
        (403, "PermissionDenied"),
        (418, "HttpStatus"),
        (206, "HttpStatus"),
        (204, "HttpStatus"),
        (304, "HttpStatus"),
        (302, "HttpStatus"),
        (101, "HttpStatus"),
    ],
)
def test_status_codes(web: Web, status: int, kind: str) -> None:
    web.pages["/a.jpg?w=1"] = answer(b"" if status in (101, 204, 304) else b"page", status)
    result, message = refused(web, "/a.jpg?w=1")
    assert (result, str(status) in message, "w=1" in message) == (kind, True, False)
    assert len(web.asked) == 1


def in_turn(*answers: Answer) -> Answer:
    remaining = list(answers)

    def give(say: Say) -> None:
        (remaining.pop(0) if len(remaining) > 1 else remaining[0])(say)

    return give


@pytest.mark.parametrize("status", [429, 500, 503])
def test_transient_errors_are_retried(web: Web, status: int) -> None:
    web.pages["/a.jpg"] = in_turn(answer(b"busy", status), answer(b"busy", status), answer(IMAGE))
    assert get(web) == IMAGE
    web.pages["/b.jpg"] = answer(b"busy", status)
    assert f"answers with status {status} after all tries" in unavailable(web, "/b.jpg")
    assert len(web.asked) == 3 + http.TRIES


def _later(seconds: float) -> str:
    return format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("after", ["1", "a date"])
def test_retry_after_is_respected(web: Web, after: str) -> None:
    said = _later(2) if after == "a date" else after
    web.pages["/a.jpg"] = in_turn(answer(b"", 503, f"Retry-After: {said}"), answer(IMAGE))
    started = time.monotonic()
    assert get(web) == IMAGE
    assert time.monotonic() - started >= 0.9


@pytest.mark.parametrize("after", ["3600", "9" * 400, "in an hour"])
def test_a_long_retry_after_ends_the_tries(web: Web, after: str) -> None:
    web.pages["/a.jpg"] = answer(b"", 429, f"Retry-After: {_later(3600) if after == 'in an hour' else after}")
    unavailable(web)
    assert len(web.asked) == 1


@pytest.mark.parametrize("after", ["-5", "soon", "", "1.5", "Wed, 99 Foo 2020"])
def test_an_invalid_retry_after_is_ignored(web: Web, after: str) -> None:
    web.pages["/a.jpg"] = in_turn(answer(b"", 503, f"Retry-After: {after}"), answer(IMAGE))
    assert get(web) == IMAGE


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", ["/b.jpg?sig=1", "b.jpg?sig=1", "//127.0.0.1:{port}/b.jpg?sig=1", "{base}/b.jpg?sig=1#"])
def test_redirects_within_a_host(web: Web, status: int, to: str) -> None:
    where = to.format(port=web.port, base=f"http://127.0.0.1:{web.port}")
    web.pages["/a.jpg"] = answer(b"moved", status, f"Location: {where}")
    web.pages["/b.jpg?sig=1"] = answer(IMAGE)
    assert get(web) == IMAGE


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest/meta-data/iam/",
        "http://[fd00:ec2::254]/latest/",
        "http://127.0.0.1/a.jpg",
        "http://127.0.0.1:1/a.jpg",
        "http://127.0.0.2:{port}/b.jpg",
        "http://localhost:{port}/b.jpg",
        "http://0x7f000001:{port}/b.jpg",
        "//other.example/b.jpg",
        "https://127.0.0.1:{port}.other.example/b.jpg",
        "http://name:s3cret@127.0.0.1:{port}/b.jpg",
        "http://127.0.0.1:{port}\\@other.example/b.jpg",
        "http://127.0.0.1:99999/b.jpg",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/b.jpg",
        "http://[::1/b.jpg",
    ],
)
def test_refused_redirects(web: Web, to: str) -> None:
    web.pages["/a.jpg"] = answer(b"", 302, "Location: " + to.format(port=web.port))
    web.pages["/b.jpg"] = answer(IMAGE)
    kind, message = refused(web)
    assert (kind, "s3cret" in message) == ("RedirectRefused", False)
    assert [asked.path for asked in web.asked] == ["/a.jpg"]


def test_a_redirect_to_another_listed_host_is_refused(web: Web, names: Names) -> None:
    names.known["other.example"] = ["127.0.0.1"]
    web.pages["/a.jpg"] = answer(b"", 302, f"Location: http://other.example:{web.port}/b.jpg")
    web.pages["/b.jpg"] = answer(IMAGE)
    both = HttpOptions((f"images.example:{web.port}", f"other.example:{web.port}"), private=True)
    with pytest.raises(ImageError, match=r"redirects to other\.example") as caught:
        http.get_image(f"http://images.example:{web.port}/a.jpg".encode(), both)
    assert (caught.value.kind, len(web.asked)) == ("RedirectRefused", 1)


def test_each_redirect_is_checked_anew(web: Web, names: Names) -> None:
    """The host is the same, but its name resolves to another address by now."""

    def moved(say: Say) -> None:
        names.known["images.example"] = ["10.0.0.1", "169.254.169.254"]
        answer(b"", 302, "Location: /b.jpg", "Connection: close")(say)

    web.pages["/a.jpg"] = moved
    assert refused(web, host="images.example")[0] == "PrivateAddress"


def test_endless_redirects(web: Web) -> None:
    web.pages["/a.jpg"] = answer(b"", 302, "Location: /a.jpg")
    assert refused(web)[0] == "RedirectRefused"
    assert len(web.asked) == 1 + http.REDIRECTS


def chunked(pieces: list[bytes], *headers: str) -> Answer:
    def give(say: Say) -> None:
        say("\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers, "", ""]).encode())
        for piece in [*pieces, b""]:
            say(b"%x\r\n%b\r\n" % (len(piece), piece))

    return give


def endless(start: bytes, piece: bytes, pause: float = 0.0) -> Answer:
    def give(say: Say) -> None:
        say(start)
        while True:
            say(piece)
            time.sleep(pause)

    return give


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "given",
    [
        endless(HEAD + b"\r\n", b"x" * 4096),
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n"),
        answer(b"", length=10**15),
        answer(b"x" * 100_001),
        chunked([b"x" * 50_000] * 3),
    ],
    ids=["endless", "endless chunks", "promised", "a byte more", "chunks"],
)
def test_no_more_bytes_than_allowed(web: Web, given: Answer) -> None:
    web.pages["/a.jpg"] = given
    with pytest.raises(ImageError, match="at most 100000 bytes") as caught:
        http.get_image(f"http://127.0.0.1:{web.port}/a.jpg".encode(), options(web), 100_000)
    assert caught.value.kind == "TooManyBytes"
    assert len(web.asked) == 1


@pytest.mark.parametrize(
    "given",
    [
        endless(HEAD + b"Content-Length: 1000\r\n\r\n", b"x", 0.02),
        endless(HEAD, b"X", 0.02),
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1", 0.02),
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n", 0.02),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.02),
        endless(b"HTTP/1.1 404 Gone\r\nContent-Length: 1000\r\n\r\n", b"x", 0.02),
        endless(b"", b"", 0.02),
    ],
    ids=["body", "header", "chunk size", "trailer", "continue", "page of an error", "silence"],
)
def test_no_more_time_than_allowed(web: Web, monkeypatch: pytest.MonkeyPatch, given: Answer) -> None:
    """Every read is short, but the response never ends."""
    monkeypatch.setenv("CVBATCH_HTTP_TOTAL_SECONDS", "0.4")
    web.pages["/a.jpg"] = given
    assert "too slow" in unavailable(web)


def test_a_stalled_response(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_STORAGE_READ_TIMEOUT", "0.1")
    web.pages["/a.jpg"] = in_turn(endless(HEAD, b"", 0.02), answer(IMAGE))
    assert get(web) == IMAGE


def test_a_truncated_body(web: Web) -> None:
    def broken(say: Say) -> None:
        answer(IMAGE, length=1000)(say)
        raise ConnectionAbortedError

    web.pages["/a.jpg"] = in_turn(broken, broken, answer(IMAGE))
    assert get(web) == IMAGE
    web.pages["/b.jpg"] = broken
    assert "ClientPayloadError" in unavailable(web, "/b.jpg")


def test_surplus_bytes_of_a_body_are_not_the_next_response(web: Web) -> None:
    web.pages["/a.jpg"] = answer(IMAGE + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", length=len(IMAGE))
    web.pages["/b.jpg"] = answer(b"another image")
    for _ in range(5):
        assert get(web) == IMAGE
        assert get(web, "/b.jpg") == b"another image"


def test_unsolicited_data_is_not_the_next_response(web: Web) -> None:
    sent = []

    def double(say: Say) -> None:
        answer(IMAGE)(say)
        time.sleep(0.05)
        answer(b"evil")(say)
        sent.append(True)

    web.pages["/a.jpg"], web.pages["/b.jpg"] = double, answer(b"another image")
    assert get(web) == IMAGE
    while not sent:
        time.sleep(0.01)
    assert get(web, "/b.jpg") == b"another image"


@pytest.mark.parametrize(
    "given",
    [
        answer(b"\x1f\x8b\x08bomb", 200, "Content-Encoding: gzip"),
        answer(b"bomb", 200, "Content-Encoding: br, identity"),
        chunked([b"bomb"], "Content-Encoding: deflate"),
        lambda say: say(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n4\r\nbomb\r\n0\r\n\r\n"),
    ],
)
def test_compressed_responses_are_refused(web: Web, given: Answer) -> None:
    web.pages["/a.jpg"] = given
    assert refused(web)[0] == "UnsupportedEncoding"


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.7\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"",
        HEAD + b"X" * 100_000,
        HEAD + b"X: y\r\n" * 200 + b"\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\n",
    ],
)
def test_invalid_http(web: Web, said: bytes) -> None:
    def give(say: Say) -> None:
        say(said)
        raise ConnectionAbortedError

    web.pages["/a.jpg"] = give
    unavailable(web)
    assert len(web.asked) == http.TRIES


def test_no_server_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(UnavailableError, match="ConnectionRefusedError"):
        http.get_image(f"http://127.0.0.1:{port}/".encode(), HttpOptions((f"127.0.0.1:{port}",), private=True))


def test_cookies_are_not_kept(web: Web) -> None:
    web.pages["/a.jpg"] = answer(IMAGE, 200, "Set-Cookie: id=1; Path=/")
    get(web)
    get(web)
    assert [asked.headers.get("Cookie") for asked in web.asked] == [None, None]


def test_many_concurrent_requests(web: Web) -> None:
    for number in range(60):
        web.pages[f"/{number}.jpg"] = answer(b"%d" % number)
    with ThreadPoolExecutor(20) as pool:
        result = list(pool.map(lambda number: get(web, f"/{number}.jpg"), range(60)))
    assert result == [b"%d" % number for number in range(60)]


def test_idle_connections_to_many_hosts_are_limited(web: Web, names: Names) -> None:
    """By default, aiohttp keeps idle connections until the process reaches its limit of open files."""
    web.pages["/a.jpg"] = answer(IMAGE)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(200):
        names.known[f"{number}.example"] = ["127.0.0.1"]
        anyone = HttpOptions((f"*.example:{web.port}",), private=True)
        assert http.get_image(f"http://{number}.example:{web.port}/a.jpg".encode(), anyone) == IMAGE
    ours = (len(os.listdir("/proc/self/fd")) - before) / 2  # the server is in this process
    assert ours < connections._MAX_SOCKETS + 10


@pytest.mark.parametrize("host", ["127.1", "2130706433"])
def test_addresses_with_fewer_than_four_numbers(web: Web, host: str) -> None:
    assert refused(web, host=host)[0] == "InvalidUrl"
    assert web.asked == []


def test_the_client_leaves_nothing_behind(web: Web) -> None:
    web.pages["/a.jpg"] = answer(IMAGE)
    get(web)
    loop = connections.web_client()._loop
    connections._client_of_process.cache_clear()
    assert loop.is_closed()


def test_a_request_in_progress_ends_with_the_client(web: Web) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        allowed = HttpOptions((f"127.0.0.1:{port}",), private=True)
        request = http.start_get_image(f"http://127.0.0.1:{port}/a.jpg".encode(), allowed)
        silent.accept()[0].close()  # it is tried again, and nothing answers
        loop = connections.web_client()._loop
        connections._client_of_process.cache_clear()
        assert request.cancelled()
        assert loop.is_closed()


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server with a certificate for `images.example`, which this process trusts."""
    yield from _secure(tmp_path, monkeypatch, "images.example", "127.0.0.1")


def _secure(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str, days: int = 1) -> Iterator[Web]:
    certificate, context = make_certificate(folder, *names, days=days)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    connections._client_of_process.cache_clear()
    web = Web(context)
    web.pages["/a.jpg"] = answer(IMAGE)
    yield web
    connections._client_of_process.cache_clear()
    web.close()
    connections._client_of_process.cache_clear()


def test_https(trusted: Web, names: Names) -> None:
    for _ in range(3):
        assert get(trusted, host="images.example", scheme="https") == IMAGE
    assert trusted.names == ["images.example"]
    assert {asked.headers["Host"] for asked in trusted.asked} == {f"images.example:{trusted.port}"}


def test_https_with_an_address(trusted: Web) -> None:
    assert get(trusted, scheme="https") == IMAGE


def test_a_certificate_of_another_host(trusted: Web, names: Names) -> None:
    names.known["other.example"] = ["127.0.0.1"]
    kind, message = refused(trusted, host="other.example", scheme="https")
    assert kind == "UntrustedCertificate"
    assert "other.example" in message
    assert trusted.asked == []


def test_an_untrusted_certificate(trusted: Web, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    connections._client_of_process.cache_clear()
    assert refused(trusted, host="images.example", scheme="https")[0] == "UntrustedCertificate"
    assert trusted.asked == []


def test_an_expired_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: Names) -> None:
    for server in _secure(tmp_path, monkeypatch, "images.example", days=-1):
        kind, message = refused(server, host="images.example", scheme="https")
        assert (kind, "expired" in message) == ("UntrustedCertificate", True)


def test_a_redirect_from_https_to_http_is_refused(trusted: Web, names: Names) -> None:
    port = trusted.port
    trusted.pages["/a.jpg"] = answer(b"", 302, f"Location: http://images.example:{port}/a.jpg")
    kind, message = refused(trusted, host="images.example", scheme="https")
    assert (kind, "from https to http" in message) == ("RedirectRefused", True)


def test_slow_bytes_over_tls(trusted: Web, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_HTTP_TOTAL_SECONDS", "0.5")
    trusted.pages["/a.jpg"] = endless(HEAD + b"Content-Length: 1000\r\n\r\n", b"x", 0.02)
    with pytest.raises(UnavailableError, match="too slow"):
        get(trusted, host="images.example", scheme="https")


def test_plain_text_where_tls_is_expected(web: Web) -> None:
    with pytest.raises(UnavailableError, match="no usable response"):
        get(web, scheme="https")


def test_tls_without_a_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_HTTP_TOTAL_SECONDS", "0.4")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UnavailableError, match="too slow"):
            http.get_image(f"https://127.0.0.1:{port}/".encode(), HttpOptions((f"127.0.0.1:{port}",), private=True))
