"""The web client: aiohttp, configured to connect only to checked addresses.

The requests of all threads run in one event loop in its own thread and share connections.
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

_client_lock: Final = threading.Lock()

_LOOKUPS_AT_ONCE: Final = 48
_IDLE_SECONDS: Final = 20
_MAX_SOCKETS: Final = 112
"""Above this number of sockets, connections are not reused; aiohttp does not limit idle connections."""
_MAX_HEADERS: Final = 100
_MAX_HEADER_BYTES: Final = 64 << 10
"""Size of one header; the default of aiohttp, 8 KiB, is too small for cookies and policies of some servers."""
_BUFFER_BYTES: Final = 256 << 10
_CLOSING_CHECKS: Final = 100


class WebSessions:
    """The sessions of aiohttp, one for each set of options; only for use in their event loop."""

    def __init__(self) -> None:
        self._sessions: dict[HttpOptions, aiohttp.ClientSession] = {}
        self._sockets = WeakSet[socket.socket]()

    def send_request(
        self, target: HttpTarget, options: HttpOptions, headers: Mapping[str, str]
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send one request, without following redirects.

        Args:
            target: URL to request.
            options: Allowed addresses.
            headers: All headers of the request.

        Raises:
            ImageError: As `HttpTarget.resolve_addresses`, when the response is awaited.
        """
        if options not in self._sessions:
            self._sessions[options] = _make_session(options, self._sockets)
        if len(self._sockets) > _MAX_SOCKETS:
            headers = {**headers, "Connection": "close"}
        return self._sessions[options].get(target.request_url, headers=headers, allow_redirects=False)

    async def close_connections(self) -> None:
        """Cancel all requests and close all connections, also TLS connections that wait for the server to close."""
        requests = asyncio.all_tasks() - {asyncio.current_task()}
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        for session in self._sessions.values():
            await session.close()
        for open_socket in list(self._sockets):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
        for _ in range(_CLOSING_CHECKS):
            if all(open_socket.fileno() < 0 for open_socket in list(self._sockets)):
                return
            await asyncio.sleep(0.01)


class WebClient:
    """The event loop of a process for web requests; it runs for the lifetime of this object, which is thread-safe."""

    def __init__(self) -> None:
        # not epoll: a fork shares it with its parent, and what the child unregisters on exit is lost in both
        self._loop = asyncio.SelectorEventLoop(selectors.PollSelector())
        self._loop.set_default_executor(ThreadPoolExecutor(_LOOKUPS_AT_ONCE, thread_name_prefix="lookup"))
        thread = threading.Thread(target=self._loop.run_forever, name="web client", daemon=True)
        thread.start()
        self._sessions = WebSessions()
        finalize(self, _close_client, os.getpid(), self._loop, thread, self._sessions)

    def start_coroutine(self, work: Callable[[WebSessions], Coroutine[object, object, T]]) -> Future[T]:
        """Run a coroutine in the event loop.

        Args:
            work: Creates the coroutine; it does not get this object, as errors would keep it alive.
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
    """Check the address again, as hosts that are addresses skip the resolver; return a socket for it."""
    family, kind, protocol, _, (address, *_) = address_info
    check_address(str(address), str(address), options)
    new_socket = socket.socket(family, kind, protocol)
    sockets.add(new_socket)
    return new_socket


class _CheckedResolver(AbstractResolver):
    """Looks up a host once per connection; refuses it if any of its addresses is refused."""

    def __init__(self, options: HttpOptions) -> None:
        self._options = options

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host, in the order of the system's resolver.

        Errors as for `HttpTarget.resolve_addresses`.
        """
        target = HttpTarget("http", host, port, "/")
        return [
            ResolveResult(
                hostname=host, host=str(socket_address[0]), port=port, family=address_family, proto=0, flags=0
            )
            for address_family, socket_address in await asyncio.to_thread(target.resolve_addresses, self._options)
        ]

    async def close(self) -> None:
        """Do nothing, as no resources are held."""


async def _send_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Prevent aiohttp from repeating a request over a broken connection, as this package counts the tries."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(str(error)) from error


def web_client() -> WebClient:
    """The client of this process; a fork gets a client of its own."""
    with _client_lock:
        return _client_of_process(os.getpid())


@cache
def _client_of_process(process: int) -> WebClient:
    return WebClient()


def _close_client(
    process: int, loop: asyncio.AbstractEventLoop, thread: threading.Thread, sessions: WebSessions
) -> None:
    if process != os.getpid():
        return  # the thread belongs to the parent process
    asyncio.run_coroutine_threadsafe(sessions.close_connections(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
