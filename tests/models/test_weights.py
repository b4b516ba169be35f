"""Finding, downloading and checking weight files, against a local server."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from cvbatch.errors import ModelError
from cvbatch.models import catalog, weights
from cvbatch.models.catalog import WeightsEntry

CONTENT = bytes(range(256)) * 40_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Publisher:
    """A server that offers the file, as well as it can."""

    weights: WeightsEntry
    busy: int = 0
    """So many requests it answers with 503."""
    cuts: int = 0
    """So many answers it breaks off halfway."""
    ranges: list[str | None] = field(default_factory=list)
    """What was asked for, request by request."""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        if self.busy:
            self.busy -= 1
            request.send_error(503)
            return
        if request.path != "/net-x.pth":
            request.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        if start >= len(CONTENT):
            request.send_error(416)
            return
        body = CONTENT[start:]
        request.send_response(206 if asked else 200)
        if asked:
            request.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        request.send_header("Content-Length", str(len(body)))
        request.send_header("ETag", '"1"')
        request.end_headers()
        if self.cuts:
            self.cuts -= 1
            body = body[: len(body) // 2]
        request.wfile.write(body)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    row = catalog.catalog_entries()["resnet18"].weights["IMAGENET1K_V1"]
    url = f"http://127.0.0.1:{server.server_port}/net-x.pth"
    made = Publisher(replace(row, url=url, sha256_prefix=DIGEST[:8]))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def published(publisher: Publisher) -> WeightsEntry:
    """Weights that a server on this machine offers."""
    return publisher.weights


def in_folder() -> list[str]:
    """What there is besides locks."""
    return sorted(path.name for path in weights.weights_folder().iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize("variable", ["TORCH_HOME", "XDG_CACHE_HOME"])
def test_the_folder_is_that_of_torch(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv(variable, str(tmp_path))
    assert str(weights.weights_folder()) == f"{torch.hub.get_dir()}/checkpoints"


def test_a_download_arrives_whole_and_once(published: WeightsEntry, home: Path) -> None:
    assert weights.find_weights_file(published) is None
    path = weights.fetch_weights(published, "net")
    assert path.read_bytes() == CONTENT
    assert [each.name for each in path.parent.iterdir()] == ["net-x.pth"]  # no lock either
    assert weights.fetch_weights(replace(published, url="http://127.0.0.1:9/net-x.pth"), "net") == path


def test_a_file_that_is_not_the_published_one_does_not_stay(published: WeightsEntry) -> None:
    with pytest.raises(ModelError, match=r"net-x\.pth: expected sha256 00000000, got"):
        weights.fetch_weights(replace(published, sha256_prefix="00000000"), "net")
    assert in_folder() == []


def test_a_busy_server_is_asked_again(publisher: Publisher) -> None:
    publisher.busy = 2
    assert weights.fetch_weights(publisher.weights, "net").read_bytes() == CONTENT
    assert publisher.ranges == [None] * 3


def test_what_breaks_off_is_gone_on_with(publisher: Publisher) -> None:
    publisher.cuts = 2
    assert weights.fetch_weights(publisher.weights, "net").read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert publisher.ranges == [None, *(f"bytes={start}-{len(CONTENT) - 1}" for start in (half, half + half // 2))]


def test_what_another_process_began_is_gone_on_with(publisher: Publisher, home: Path) -> None:
    part = weights.weights_folder() / "net-x.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:1000])
    assert weights.fetch_weights(publisher.weights, "net").read_bytes() == CONTENT
    assert publisher.ranges == ["bytes=1000-"]
    assert in_folder() == ["net-x.pth"]


@pytest.mark.parametrize("beginning", [b"something else", CONTENT], ids=["other", "whole"])
def test_a_beginning_that_does_not_fit_is_thrown_away(publisher: Publisher, beginning: bytes) -> None:
    part = weights.weights_folder() / "net-x.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(beginning)
    assert weights.fetch_weights(publisher.weights, "net").read_bytes() == CONTENT
    assert publisher.ranges[-1] is None
    assert in_folder() == ["net-x.pth"]


def test_what_came_before_the_server_went_away_stays(publisher: Publisher) -> None:
    part = weights.weights_folder() / "net-x.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:1000])
    publisher.busy = 100
    with pytest.raises(ModelError, match="cannot be reached"):
        weights.fetch_weights(publisher.weights, "net")
    assert part.read_bytes() == CONTENT[:1000]


def test_many_want_it_and_one_fetches_it(publisher: Publisher) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: weights.fetch_weights(publisher.weights, "net"), range(8)))
    assert [path.read_bytes() for path in paths] == [CONTENT]
    assert publisher.ranges == [None]
    assert [path.name for path in weights.weights_folder().iterdir()] == ["net-x.pth"]


def test_who_waits_is_told_how_far_it_is(published: WeightsEntry) -> None:
    told: list[str] = []
    weights.fetch_weights(published, "net", told.append)
    assert told[-1] == "getting net-x.pth, 10 of 10 MB"


@pytest.mark.parametrize("on_terminal", [True, False])
def test_a_bar_is_for_terminals(published: WeightsEntry, on_terminal: bool) -> None:
    code = (
        "from pathlib import Path; from cvbatch.models.download import download_once; import sys\n"
        "download_once(sys.argv[1], Path(sys.argv[2]), lambda part: None)"
    )
    command = [sys.executable, "-c", code, published.url, str(weights.weights_folder() / "net-x.pth")]
    ours, theirs = os.openpty() if on_terminal else os.pipe()
    subprocess.run(command, stderr=theirs, check=True, env={**os.environ, "TERM": "xterm"})
    os.set_blocking(ours, False)
    shown = b""
    with contextlib.suppress(BlockingIOError):  # a terminal gives what it has in pieces
        while on_terminal:
            shown += os.read(ours, 100_000)
    os.close(theirs)
    assert (b"net-x.pth" in shown, b"MB" in shown) == (on_terminal, on_terminal)
    if not on_terminal:
        assert os.read(ours, 1000) == b""
    os.close(ours)


def test_a_folder_that_cannot_be_written_is_named(published: WeightsEntry, home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(ModelError, match="cannot be written"):
        weights.fetch_weights(published, "net")


@pytest.mark.parametrize("path", ["missing.pth", "net-x.pth"])
def test_what_cannot_be_had_is_named(published: WeightsEntry, path: str) -> None:
    port = published.url.rpartition(":")[2].partition("/")[0] if path == "missing.pth" else "9"
    row = replace(published, url=f"http://127.0.0.1:{port}/{path}")
    with pytest.raises(ModelError) as caught:
        weights.fetch_weights(row, "net50")
    message = str(caught.value)
    assert f"weights {path} of net50 are not on this machine" in message
    assert f"put the file into {weights.weights_folder()}" in message
    assert "\n" not in message


def test_the_embedded_weights_lie_in_their_package() -> None:
    path = weights.find_embedded_file()
    assert path is not None
    assert weights.check_file_hash(path, "57934424").startswith("57934424")
