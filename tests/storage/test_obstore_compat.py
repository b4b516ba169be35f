"""Texts of obstore's errors that the package depends on, checked with the installed version."""

from __future__ import annotations

import socket
from datetime import timedelta

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

from cvbatch.storage import obstore_compat
from tests.rigs.web import Say, Web, answer


def store(port: int) -> S3Store:
    return S3Store(
        "bucket",
        endpoint=f"http://127.0.0.1:{port}",
        region="us-east-1",
        virtual_hosted_style_request=False,
        skip_signature=True,
        client_options={"allow_http": True, "timeout": timedelta(seconds=1)},
        retry_config={"max_retries": 0},
    )


def failure(port: int) -> str:
    """Text of the error from reading an object."""
    with pytest.raises((BaseError, FileNotFoundError)) as caught:
        obstore.get(store(port), "key").bytes()
    return str(caught.value)


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_the_status_and_the_code_of_the_service_are_found(status: int, web: Web) -> None:
    web.pages["/bucket/key"] = answer(b"<Error><Code>SlowDown</Code><Message>So</Message></Error>", status)
    assert obstore_compat.status_in(failure(web.port)) == (status, "SlowDown")


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_port_without_a_server_gives_no_response() -> None:
    text = failure(closed_port())
    assert obstore_compat.is_no_answer(text)
    assert obstore_compat.status_in(text) == (0, "")


def test_a_silent_service_gives_no_response(web: Web) -> None:
    def wait(say: Say) -> None:
        web.closing.wait(5)

    web.pages["/bucket/key"] = wait
    assert obstore_compat.is_no_answer(failure(web.port))


def test_an_interrupted_body_is_no_response(web: Web) -> None:
    def half(say: Say) -> None:
        answer(b"half", length=8)(say)
        raise ConnectionAbortedError

    web.pages["/bucket/key"] = half
    assert obstore_compat.is_no_answer(failure(web.port))


def test_the_message_comes_before_the_debug_output() -> None:
    text = failure(closed_port())
    assert "Debug source" in text
    said = obstore_compat.message_in(text)
    assert said
    assert "Debug source" not in said
    assert "\n" not in said
