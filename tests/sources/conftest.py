"""A web server that is left, and what names mean."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from cvbatch.sources.fetch import connections
from tests.rigs.web import Names, Web


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """The only thing that is not real: what names mean."""
    found = Names({"images.example": ["127.0.0.1"]})
    monkeypatch.setattr(socket, "getaddrinfo", found.look_up)
    return found


@pytest.fixture
def web(web: Web) -> Iterator[Web]:
    """A plain server to which no connection is left open."""
    yield web
    connections._client_of_process.cache_clear()
