"""The web client: aiohttp, set up so that it connects to nothing but addresses that were checked.

The requests of all threads run in one event loop, in a thread of its own, and share their connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from typing import Final, TypeVar
from weakref import WeakSet, finalize

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from cvbatch.sources.fetch.aiohttp_compat import CleanConnector
from cvbatch.sources.fetch.url_policy import HttpTarget, check_address
from cvbatch.storage.http_hosts import HttpOptions
from cvbatch.storage.s3_access import CONNECT_SECONDS, READ_TIMEOUT

T = TypeVar("T")

_one_at_a_time: Final = threading.Lock()

_LOOKUPS_AT_ONCE: Final = 48
_IDLE_SECONDS: Final = 20
_MAX_SOCKETS: Final = 112
"""With more of them, no connection is kept for the next request; aiohttp has no limit for idle ones."""
_MAX_HEADERS: Final = 100
_MAX_HEADER_BYTES: Final = 64 << 10
"""Of one header: the 8 KiB of aiohttp are too few for the cookies and policies that some servers send."""
_BUFFER_BYTES: Final = 256 << 10
_CLOSING_CHECKS: Final = 100


class WebSessions:
    """aiohttp's sessions, one for each set of options; to be used in their event loop alone."""

    def __init__(self) -> None:
        self._sessions: dict[HttpOptions, aiohttp.ClientSession] = {}
        self._sockets = WeakSet[socket.socket]()

    def send_request(
        self, target: HttpTarget, options: HttpOptions, headers: Mapping[str, str]
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send one request; a redirect is an answer like others.

        Args:
            target: What to ask for.
            options: Which addresses may be connected to.
            headers: All of the request.

        Raises:
            ImageError: As `Target.resolve_addresses`, when the answer is waited for.
        """
        if options not in self._sessions:
            self._sessions[options] = _make_session(options, self._sockets)
        if len(self._sockets) > _MAX_SOCKETS:
            headers = {**headers, "Connection": "close"}
        return self._sessions[options].get(target.request_url, headers=headers, allow_redirects=False)

    async def close_connections(self) -> None:
        """Close all connections, also those of TLS that wait for the server to close."""
        for session in self._sessions.values():
            await session.close()
        for opened in list(self._sockets):
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        for _ in range(_CLOSING_CHECKS):
            if all(opened.fileno() < 0 for opened in list(self._sockets)):
                return
            await asyncio.sleep(0.01)


class WebClient:
    """The event loop of one process for the web, which lasts as long as this object; safe to be used by threads."""

    def __init__(self) -> None:
        # not epoll, which a fork would share with its parent: what the child unregisters as it exits is gone in both
        self._loop = asyncio.SelectorEventLoop(selectors.PollSelector())
        self._loop.set_default_executor(ThreadPoolExecutor(_LOOKUPS_AT_ONCE, thread_name_prefix="lookup"))
        thread = threading.Thread(target=self._loop.run_forever, name="web client", daemon=True)
        thread.start()
        self._sessions = WebSessions()
        finalize(self, _close_client, os.getpid(), self._loop, thread, self._sessions)

    def start_coroutine(self, work: Callable[[WebSessions], Coroutine[object, object, T]]) -> Future[T]:
        """Run a coroutine in the event loop.

        Args:
            work: Makes the coroutine; it is not given this object, which errors would then keep alive.
        """
        return asyncio.run_coroutine_threadsafe(work(self._sessions), self._loop)


def _make_session(options: HttpOptions, sockets: WeakSet[socket.socket]) -> aiohttp.ClientSession:
    connector = CleanConnector(
        resolver=_CheckedResolver(options),
        use_dns_cache=False,
        socket_factory=partial(_open_socket, options, sockets),
        ssl=ssl.create_default_context(),
        limit=0,
        keepalive_timeout=_IDLE_SECONDS,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_TIMEOUT.current_value),
        middlewares=[_send_once],
        read_bufsize=_BUFFER_BYTES,
        max_headers=_MAX_HEADERS,
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
    )


def _open_socket(
    options: HttpOptions, sockets: WeakSet[socket.socket], address_info: aiohttp.AddrInfoType
) -> socket.socket:
    """Check the address once more: hosts that are addresses are not looked up."""
    family, kind, protocol, _, (address, *_) = address_info
    check_address(str(address), str(address), options)
    opened = socket.socket(family, kind, protocol)
    sockets.add(opened)
    return opened


class _CheckedResolver(AbstractResolver):
    """Looks a host up, once for each connection, and refuses it if any of its addresses is refused."""

    def __init__(self, options: HttpOptions) -> None:
        self._options = options

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host, in the order of the system's resolver.

        The errors are those of `HttpTarget.resolve_addresses`.
        """
        target = HttpTarget("http", host, port, "/")
        return [
            ResolveResult(hostname=host, host=str(where[0]), port=port, family=kind, proto=0, flags=0)
            for kind, where in await asyncio.to_thread(target.resolve_addresses, self._options)
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def _send_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a request by itself where a connection breaks off: we count the tries."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(str(error)) from error


def web_client() -> WebClient:
    """The client of this process; a fork does not share connections with its parent."""
    with _one_at_a_time:
        return _client_of_process(os.getpid())


@cache
def _client_of_process(process: int) -> WebClient:
    return WebClient()


def _close_client(
    process: int, loop: asyncio.AbstractEventLoop, thread: threading.Thread, sessions: WebSessions
) -> None:
    if process != os.getpid():
        return  # the thread is the parent's
    asyncio.run_coroutine_threadsafe(sessions.close_connections(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
