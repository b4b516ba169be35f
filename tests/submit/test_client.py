"""Dashboards that are silent, or not ready yet; real clusters are asked in `tests/integration`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from cvbatch.errors import RunError
from cvbatch.submit.address import ClusterAddress
from cvbatch.submit.client import JobClient


@contextlib.contextmanager
def serving(method: str, path: str, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Iterator[str]:
    """The address of a dashboard that knows its version, has every package, and answers one thing more."""

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0", "ray_commit": ""})

    async def package(_: web.Request) -> web.Response:
        return web.Response()

    async def serve() -> None:
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ports.append(runner.addresses[0][1])
        ready.set()
        await over.wait()
        await runner.cleanup()

    app, ports, ready, over = web.Application(), list[int](), threading.Event(), asyncio.Event()
    app.router.add_get("/api/version", version)
    app.router.add_get("/api/packages/gcs/{name}", package)
    app.router.add_route(method, path, answer)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a dashboard that takes every connection to a log, says one line and then nothing."""
    over = asyncio.Event()

    async def say(request: web.Request) -> web.WebSocketResponse:
        log = web.WebSocketResponse()
        await log.prepare(request)
        await log.send_str("one\n")
        await over.wait()
        return log

    with serving("GET", "/api/jobs/{job}/logs/tail", say) as address:
        yield address


@pytest.mark.filterwarnings("ignore:ssl=None is deprecated", "ignore:Unclosed connection")  # Ray's own
def test_a_connection_that_has_become_silent_is_given_up(silent: str) -> None:
    assert list(JobClient(ClusterAddress(silent), quiet_seconds=0.5).tail_log("cvbatch-1")) == ["one\n"]
    gc.collect()  # what Ray leaves behind shall not trouble the tests that follow


@pytest.mark.parametrize(("failures", "taken"), [(1, True), (1_000, False)], ids=["it comes up", "it never does"])
def test_a_head_whose_agent_is_not_there_yet_is_asked_again(failures: int, taken: bool, tmp_path: Path) -> None:
    asked = list[str]()

    async def submit(request: web.Request) -> web.Response:
        asked.append((await request.json())["submission_id"])
        if len(asked) <= failures:
            return web.Response(status=500, text="No available agent to submit job, please try again later.")
        return web.json_response({"job_id": asked[-1], "submission_id": asked[-1]})

    with serving("POST", "/api/jobs/", submit) as address:
        client = JobClient(ClusterAddress(address), agent_seconds=60.0 if taken else 0.0)
        work = partial(client.submit_job, "cvbatch-1", "true", tmp_path, {}, cpus=0, memory=None)
        with contextlib.nullcontext() if taken else pytest.raises(RunError, match="No available agent"):
            work()
    assert asked == ["cvbatch-1"] * (2 if taken else 1)
