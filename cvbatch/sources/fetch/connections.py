"""Connections to web servers: only to addresses that were checked, kept for the next request, and never for too long.

`http.client` with a socket of our own, because there both are in our hands: which address is connected to, and how long
each read may take. It knows no proxies and no cookies.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import socket
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

from cvbatch.sources.fetch.url_policy import Target
from cvbatch.storage.http_hosts import HttpOptions
from cvbatch.storage.s3_access import CONNECT_SECONDS, READ_SECONDS

_MOST_IDLE: Final = 64
"""Connections that a process keeps open, to all hosts together."""
_IDLE_SECONDS: Final = 20

_Where = tuple[socket.AddressFamily, Any]


class _Timely:
    """Part of a socket that gives up a read when nothing comes for a while, or when the time for all of it is over.

    Time-outs of sockets begin anew with every byte.
    """

    deadline: float = 0.0
    """On the clock of `time.monotonic`."""

    def recv_into(self, *arguments: Any) -> int:
        """Read, in time."""
        self.settimeout(_left(self.deadline, READ_SECONDS))  # type: ignore[attr-defined] # the socket's
        return int(super().recv_into(*arguments))  # type: ignore[misc] # the socket's


class _PlainSocket(_Timely, socket.socket):
    pass


class _TlsSocket(_Timely, ssl.SSLSocket):
    pass


class Connection(http.client.HTTPConnection):
    """A connection to one of the addresses that the host of a target was found to have.

    Args:
        target: Names the host: in the request, and in the certificate that is asked for.
        options: Which addresses are fine.
    """

    def __init__(self, target: Target, options: HttpOptions) -> None:
        super().__init__(target.host, target.port)
        self.key = (target.scheme, target.host, target.port, options)
        self.idle_since = 0.0
        self.deadline = 0.0
        self._target, self._options = target, options
        self._socket: _PlainSocket | _TlsSocket | None = None
        self._secure = target.scheme == "https"

    def connect(self) -> None:
        """Look the host up, check what is found, and connect to exactly that.

        Raises:
            ImageError: As `Target.addresses`.
            OSError: If none of the addresses answers.
        """
        failed: OSError | None = None
        for family, address in self._target.addresses(self._options):
            try:
                self.sock = self._socket = self._connected(family, address)
                return
            except ssl.SSLCertVerificationError:
                raise
            except OSError as error:
                failed = error
        raise failed or ConnectionError("no address")

    def begin(self, deadline: float) -> None:
        """Say until when all that follows must be done."""
        self.deadline = deadline
        if self._socket is not None:
            self._socket.deadline = deadline
            self._socket.settimeout(_left(deadline, READ_SECONDS))  # to send

    @property
    def reusable(self) -> bool:
        """Whether the server has neither closed it nor sent what nobody asked for."""
        if self.sock is None or time.monotonic() - self.idle_since > _IDLE_SECONDS:
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)

    def _connected(self, family: socket.AddressFamily, address: Any) -> _PlainSocket | _TlsSocket:
        with contextlib.ExitStack() as on_failure:
            sock = on_failure.enter_context(_PlainSocket(family, socket.SOCK_STREAM))
            sock.deadline = self.deadline
            sock.settimeout(_left(self.deadline, CONNECT_SECONDS))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._secure:
                secure = _context(os.getpid()).wrap_socket(sock, server_hostname=self.host)
                assert isinstance(secure, _TlsSocket), "the context makes no others"
                secure.deadline = self.deadline
                return secure
            on_failure.pop_all()
            return sock


class _Kept:
    """Connections that wait for the next request."""

    def __init__(self) -> None:
        self._idle: deque[Connection] = deque()
        weakref.finalize(self, _close_all, self._idle)
        self._lock = threading.Lock()

    def take(self, key: object) -> Connection | None:
        """One that can be used again; the last one that was, as it is the least likely to be closed."""
        with self._lock:
            fitting = [each for each in reversed(self._idle) if each.key == key]
            for each in fitting:
                self._idle.remove(each)
                if each.reusable:
                    return each
                each.close()
        return None

    def give(self, connection: Connection) -> None:
        connection.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(connection)
            oldest = self._idle.popleft() if len(self._idle) > _MOST_IDLE else None
        if oldest is not None:
            oldest.close()


def _close_all(connections: Iterable[Connection]) -> None:
    for each in connections:
        each.close()


@contextlib.contextmanager
def connection_to(target: Target, options: HttpOptions, deadline: float) -> Iterator[Connection]:
    """A connection for one request; afterwards it is kept if its answer was read to the end, and else closed.

    Args:
        target: Where to.
        options: Which addresses are fine.
        deadline: Until when all must be done.
    """
    kept = _kept(os.getpid())
    connection = kept.take((target.scheme, target.host, target.port, options)) or Connection(target, options)
    connection.begin(deadline)
    done = False
    try:
        yield connection
        done = True
    finally:
        if done and connection.sock is not None:
            kept.give(connection)
        else:
            connection.close()


def _left(deadline: float, most: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time for one image is over")
    return min(left, most)


@lru_cache(maxsize=1)
def _kept(process: int) -> _Kept:
    return _Kept()


@lru_cache(maxsize=1)
def _context(process: int) -> ssl.SSLContext:
    """Checks certificates against those that the system trusts, or the file that SSL_CERT_FILE names."""
    context = ssl.create_default_context()
    context.sslsocket_class = _TlsSocket
    return context
