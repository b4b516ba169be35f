"""Checks of the address in `RAY_ADDRESS`."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from cvbatch.engine import address as module
from cvbatch.engine.address import cluster_address, no_cluster_error, wait_for_head
from cvbatch.errors import RunError, UsageError


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port without a listener; it is bound, so that no other process uses it."""
    with socket.socket() as bound_socket:
        bound_socket.bind(("127.0.0.1", 0))
        yield bound_socket.getsockname()[1]


@pytest.mark.parametrize("value", [None, "", "  ", "local"])
def test_without_an_address_a_local_head_is_started(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if value is not None:
        monkeypatch.setenv("RAY_ADDRESS", value)
    assert cluster_address() is None


@pytest.mark.parametrize("value", ["auto", "10.0.0.5:6379", "head.example:6379", "[::1]:6379"])
def test_the_address_of_a_head_is_used(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", value)
    assert cluster_address() == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("garbage", "expected host:port of a head, such as"),
        ("10.0.0.5", "expected host:port of a head, such as"),
        ("10.0.0.5:", "expected host:port of a head, such as"),
        ("10.0.0.5:99999", "expected host:port of a head, such as"),
        ("10.0.0.5:0", "expected host:port of a head, such as"),
        ("10.0.0.5:6379/x", "expected host:port of a head, such as"),
        ("ray://10.0.0.5:10001", "not a Ray Client address"),
        ("http://10.0.0.5:8265", "not its dashboard"),
    ],
)
def test_an_invalid_address_is_refused(value: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", value)
    with pytest.raises(UsageError, match=expected) as refused:
        cluster_address()
    assert str(refused.value).startswith(f"RAY_ADDRESS={value}")


def test_a_head_that_answers_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        wait_for_head(f"127.0.0.1:{server.getsockname()[1]}", 10)


def test_a_head_that_starts_late_is_awaited() -> None:
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))  # refuses until it listens
        coming_up = threading.Timer(0.7, head.listen)
        coming_up.start()
        wait_for_head(f"127.0.0.1:{head.getsockname()[1]}", 30)
        coming_up.join()


def test_a_refused_connection_is_reported(free_port: int) -> None:
    with pytest.raises(RunError) as refused:
        wait_for_head(f"127.0.0.1:{free_port}", 1)
    assert f"RAY_ADDRESS=127.0.0.1:{free_port} (connection refused)" in str(refused.value)
    assert "or unset RAY_ADDRESS" in str(refused.value)


def test_an_unknown_host_name_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(module.socket, "create_connection", unknown)
    with pytest.raises(RunError, match=r"\(name or service not known\)"):
        wait_for_head("head.invalid:6379", 1)


def test_an_address_that_never_answers_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener with a full queue accepts no further connections (listen(2))."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        clients = []
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(address)
            clients.append(client)
        time.sleep(0.1)
        with pytest.raises(RunError, match=r"\(no answer within 1 s\)"):
            wait_for_head(f"127.0.0.1:{address[1]}", 1)
        for client in clients:
            client.close()


def test_auto_is_left_to_ray() -> None:
    wait_for_head("auto", 0.1)
    assert "ray start --head" in no_cluster_error("auto", "none was found")
