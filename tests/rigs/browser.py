"""Debian's chromium, which opens pages and writes down what they complain about and what they ask for."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, Request, sync_playwright

__all__ = ["Browser", "Page", "open_browser"]


@dataclass
class Browser:
    """One browser; each page has a context of its own."""

    chromium: Chromium

    @contextmanager
    def page(
        self, address: str, *, scheme: Any = "light", width: int = 1280, java_script: bool = True, quiet: bool = True
    ) -> Iterator[Page]:
        """A page; at its end it must have complained of nothing, and asked for nothing but what lies beside it."""
        context = self.chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=java_script,
            reduced_motion="reduce",
        )
        complaints, elsewhere = list[str](), list[str]()
        place = address.rpartition("/")[0] + "/"

        def listen(request: Request) -> None:
            if not request.url.startswith((place, "data:", "blob:")):
                elsewhere.append(request.url)

        context.on("request", listen)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        page.set_default_timeout(5000)
        try:
            yield page
        finally:
            context.close()
        if quiet:
            assert complaints == []
            assert elsewhere == []

    def complaints(self, page: Page) -> list[str]:
        """What axe finds that is serious or critical."""
        found = Axe().run(page).response["violations"]
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
