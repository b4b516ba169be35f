"""Finding, downloading and checking weight files, against a local server."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from cvbatch.errors import ModelError
from cvbatch.models import catalog, weights
from cvbatch.models.catalog import Weights

CONTENT = b"some weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Weights]:
    """Weights that a server on this machine offers."""
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "net-x.pth").write_bytes(CONTENT)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    row = catalog.entries()["resnet18"].weights["IMAGENET1K_V1"]
    yield replace(row, url=f"http://127.0.0.1:{server.server_port}/net-x.pth", sha256_prefix=DIGEST[:8])
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("variable", ["TORCH_HOME", "XDG_CACHE_HOME"])
def test_the_folder_is_that_of_torch(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv(variable, str(tmp_path))
    assert str(weights.folder()) == f"{torch.hub.get_dir()}/checkpoints"


def test_a_download_arrives_whole_and_once(published: Weights, home: Path) -> None:
    assert weights.locate(published) is None
    path = weights.fetch(published, "net")
    assert path.read_bytes() == CONTENT
    assert [each.name for each in path.parent.iterdir()] == ["net-x.pth"]
    assert weights.fetch(replace(published, url="http://127.0.0.1:9/net-x.pth"), "net") == path


def test_a_file_that_is_not_the_published_one_does_not_stay(published: Weights) -> None:
    with pytest.raises(ModelError, match=r"net-x\.pth: expected sha256 00000000, got"):
        weights.fetch(replace(published, sha256_prefix="00000000"), "net")
    assert list(weights.folder().iterdir()) == []


@pytest.mark.parametrize("path", ["missing.pth", "net-x.pth"])
def test_what_cannot_be_had_is_named(published: Weights, path: str) -> None:
    port = published.url.rpartition(":")[2].partition("/")[0] if path == "missing.pth" else "9"
    row = replace(published, url=f"http://127.0.0.1:{port}/{path}")
    with pytest.raises(ModelError) as caught:
        weights.fetch(row, "net50")
    message = str(caught.value)
    assert f"weights {path} of net50 are not on this machine" in message
    assert f"put the file into {weights.folder()}" in message
    assert "\n" not in message


def test_the_embedded_weights_lie_in_their_package() -> None:
    path = weights.embedded()
    assert path is not None
    assert weights.check(path, "57934424").startswith("57934424")
