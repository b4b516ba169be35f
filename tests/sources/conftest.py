"""A web server and a fake name resolution."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from cvbatch.sources.fetch import connections
from tests.rigs.web import Names, Web


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Replace the name resolution, the only part that is not real."""
    result = Names({"images.example": ["127.0.0.1"]})
    monkeypatch.setattr(socket, "getaddrinfo", result.look_up)
    return result


@pytest.fixture
def web(web: Web) -> Iterator[Web]:
    """A plain server; the client closes its connections after the test."""
    yield web
    connections._client_of_process.cache_clear()
