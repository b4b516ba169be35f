"""A connection to a log that says nothing any more; real clusters are asked in `tests/integration`."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator

import pytest
from aiohttp import web

from cvbatch.submit import client as asking
from cvbatch.submit.address import Address
from cvbatch.submit.client import Client


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a dashboard that takes every connection to a log, says one line and then nothing."""

    async def say(request: web.Request) -> web.WebSocketResponse:
        log = web.WebSocketResponse()
        await log.prepare(request)
        await log.send_str("one\n")
        await over.wait()
        return log

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0", "ray_commit": ""})

    async def serve() -> None:
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ports.append(runner.addresses[0][1])
        ready.set()
        await over.wait()
        await runner.cleanup()

    app, ports, ready, over = web.Application(), list[int](), threading.Event(), asyncio.Event()
    app.router.add_get("/api/version", version)
    app.router.add_get("/api/jobs/{job}/logs/tail", say)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    ready.wait()
    yield f"http://127.0.0.1:{ports[0]}"
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


@pytest.mark.filterwarnings("ignore:ssl=None is deprecated", "ignore:Unclosed connection")  # Ray's own
def test_a_connection_that_has_become_silent_is_given_up(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_QUIET_SECONDS", 0.5)
    assert list(Client(Address(silent)).tail("cvbatch-1")) == ["one\n"]
    gc.collect()  # what Ray leaves behind shall not trouble the tests that follow
