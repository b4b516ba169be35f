"""Debian's chromium, which opens pages and writes down what they complain about and what they ask for."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, sync_playwright

__all__ = ["Browser", "Page", "open_browser"]


@dataclass
class _Kept:
    """A page of the browser that is used again: a new one takes longer than what is shown in it."""

    page: Page
    said: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(5000)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))

    def show(self, address: str) -> None:
        """Load a page anew, with the pointer outside; what was loading before is given up."""
        self.page.mouse.move(0, 0)
        self.page.goto("about:blank")
        self.said.clear()
        self.requests.clear()
        self.page.goto(address, timeout=30_000)


@dataclass
class Browser:
    """One browser."""

    chromium: Chromium
    _kept: dict[bool, _Kept] = field(default_factory=dict)

    @contextmanager
    def page(
        self, address: str, *, scheme: Any = "light", width: int = 1280, java_script: bool = True, quiet: bool = True
    ) -> Iterator[Page]:
        """A page; at its end it must have complained of nothing, and asked for nothing but what lies beside it."""
        kept = self._kept.get(java_script)
        if kept is None or kept.page.is_closed():
            context = self.chromium.new_context(java_script_enabled=java_script, reduced_motion="reduce")
            kept = self._kept[java_script] = _Kept(context.new_page())
        kept.page.set_viewport_size({"width": width, "height": 900})
        kept.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        kept.show(address)
        yield kept.page
        if quiet:
            place = address.rpartition("/")[0] + "/"
            assert kept.said == []
            assert [url for url in kept.requests if not url.startswith((place, "data:", "blob:"))] == []

    def complaints(self, page: Page, *rules: str, within: str | None = None) -> list[str]:
        """What axe finds that is serious or critical, by some of its rules or all, in one part of the page or all."""
        found = Axe().run(page, within, {"runOnly": list(rules)} if rules else None).response["violations"]
        return [
            f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:5]]}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]

    @contextmanager
    def served(self, folder: Path) -> Iterator[str]:
        """A plain web server's address of the page in a folder."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/index.html"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Skips where there is no chromium."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield Browser(chromium)
        finally:
            chromium.close()
