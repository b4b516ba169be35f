"""What rests on texts of obstore's errors, held against the one that is installed."""

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
    """The text of the error with which an object cannot be read."""
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


def test_a_port_at_which_nobody_listens_gives_no_answer() -> None:
    text = failure(closed_port())
    assert obstore_compat.is_no_answer(text)
    assert obstore_compat.status_in(text) == (0, "")


def test_a_service_that_says_nothing_gives_no_answer(web: Web) -> None:
    def wait(say: Say) -> None:
        web.closing.wait(5)

    web.pages["/bucket/key"] = wait
    assert obstore_compat.is_no_answer(failure(web.port))


def test_a_body_that_breaks_off_is_no_answer(web: Web) -> None:
    def half(say: Say) -> None:
        answer(b"half", length=8)(say)
        raise ConnectionAbortedError

    web.pages["/bucket/key"] = half
    assert obstore_compat.is_no_answer(failure(web.port))


def test_what_is_for_people_comes_first() -> None:
    text = failure(closed_port())
    assert "Debug source" in text
    said = obstore_compat.message_in(text)
    assert said
    assert "Debug source" not in said
    assert "\n" not in said
