"""An HTTP proxy that does harm on purpose: it stands between a client and the object store, on loopback.

The `Host` header goes through unchanged, because S3 signatures cover it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

Kind = Literal["status", "answer", "unsent", "reset", "stall", "slow", "lost", "late"]
_CODES = {
    409: "ConditionalRequestConflict",
    404: "NoSuchUpload",
    403: "AccessDenied",
    429: "TooManyRequests",
    500: "InternalError",
    503: "SlowDown",
}
_BLOCK = 65_536


@dataclass
class Fault:
    """What happens to the next requests that fit.

    `status`: answered with an error, and not passed on. `answer`: answered with `body`, and not passed on.
    `unsent`: the connection is reset before anything is passed on. `reset`, `stall`: so after some bytes of the
    answer's body. `slow`: the body comes at a rate. `lost`: passed on, takes effect, and then the connection is
    reset without an answer. `late`: as `lost` for the client, but takes effect only after `seconds`.
    """

    kind: Kind
    method: str = "[A-Z]+"
    path: str = ".*"
    """Searched in path and query."""
    times: int = 1
    status: int = 503
    body: bytes = b""
    after: int = 0
    """Bytes of the body that come through before it happens; −1: not even the head."""
    rate: float = 1e9
    """Bytes per second."""
    seconds: float = 0.0

    def fits(self, method: str, path: str) -> bool:
        return self.times > 0 and bool(re.fullmatch(self.method, method) and re.search(self.path, path))


@dataclass(frozen=True)
class Request:
    """One request as it was seen."""

    method: str
    path: str
    fault: Kind | None
    at: float


class FaultProxy:
    """Runs in a thread of this process; other processes reach it by its endpoint.

    Args:
        upstream: URL of the real server.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self._upstream = (parts.hostname, parts.port)
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="fault proxy", daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._faults += faults

    @contextlib.contextmanager
    def doing(self, *faults: Fault) -> Iterator[list[Request]]:
        """These faults, and a fresh list of requests, for as long as the context lasts."""
        with self._lock:
            self._faults, self.requests = list(faults), []
        try:
            yield self.requests
        finally:
            with self._lock:
                self._faults = []

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        self._over = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await _head(reader)) is not None:
                if not await self._one(head, await _body(head, reader), writer):
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _one(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; False if the connection is over."""
        method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        fault = self._take(method, path)
        if fault is None:
            return await self._pass_on(head, body, writer, Fault("slow"), method)
        if fault.kind in ("status", "answer"):
            content = fault.body if fault.kind == "answer" else _error(fault.status)
            status = 200 if fault.kind == "answer" else fault.status
            content = b"" if method == "HEAD" else content
            writer.write(
                b'HTTP/1.1 %d Fault\r\nContent-Type: application/xml\r\nETag: "e"\r\nContent-Length: %d\r\n\r\n'
                % (status, len(content))
            )
            writer.write(content)
            await writer.drain()
            return True
        if fault.kind == "unsent":
            _abort(writer)
            return False
        if fault.kind == "late":
            later = asyncio.create_task(self._later(head, body, fault.seconds))
            later.add_done_callback(lambda task: task.cancelled() or task.exception())
            _abort(writer)
            return False
        return await self._pass_on(head, body, writer, fault, method)

    def _take(self, method: str, path: str) -> Fault | None:
        with self._lock:
            fault = next((fault for fault in self._faults if fault.fits(method, path)), None)
            if fault is not None:
                fault.times -= 1
            self.requests.append(Request(method, path, fault and fault.kind, time.monotonic()))
            return fault

    async def _later(self, head: bytes, body: bytes, seconds: float) -> None:
        await asyncio.sleep(seconds)
        upstream, up = await asyncio.open_connection(*self._upstream)
        up.write(head + body)
        await upstream.read(1)
        up.close()

    async def _pass_on(self, head: bytes, body: bytes, writer: asyncio.StreamWriter, fault: Fault, method: str) -> bool:
        upstream, up = await asyncio.open_connection(*self._upstream)
        try:
            up.write(head + body)
            answer = await _head(upstream)
            while answer is not None and answer.startswith(b"HTTP/1.1 100"):
                answer = await _head(upstream)
            if answer is None:
                return False
            content = b"" if method == "HEAD" or b" 204 " in answer[:16] else await _body(answer, upstream)
        finally:
            up.close()
        if fault.kind == "lost":
            _abort(writer)
            return False
        if fault.kind == "stall" and fault.after < 0:
            await asyncio.sleep(3600)
        writer.write(answer)
        at = 0
        while at < len(content):
            to = min(at + _BLOCK, len(content))
            if fault.kind in ("reset", "stall"):
                to = min(to, max(fault.after, at))
            if fault.rate < 1e9:
                to = min(at + max(1, int(fault.rate / 10)), len(content))
                await asyncio.sleep(0.1)
            writer.write(content[at:to])
            await writer.drain()
            at = to
            if fault.kind in ("reset", "stall") and at >= fault.after:
                if fault.kind == "stall":
                    await asyncio.sleep(3600)
                await asyncio.sleep(0.02)  # what was written must have left before the reset overtakes it
                _abort(writer)
                return False
        await writer.drain()
        return True


async def _head(reader: asyncio.StreamReader) -> bytes | None:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    """The body as it is on the wire, with its chunks."""
    if length := re.search(rb"(?im)^content-length:\s*(\d+)", head):
        return await reader.readexactly(int(length[1]))
    if not re.search(rb"(?im)^transfer-encoding:\s*chunked", head):
        return b""
    body = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        body += line + await reader.readexactly(size + 2)
        if size == 0:
            return body


def _abort(writer: asyncio.StreamWriter) -> None:
    """Reset instead of an orderly end."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _error(status: int) -> bytes:
    code = _CODES.get(status, "Error")
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>on purpose</Message>'
        "<RequestId>1</RequestId></Error>"
    ).encode()
