"""Azure's own emulator, where it is installed (`npm install -g azurite`)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PROGRAM = shutil.which("azurite-blob")


@dataclass(frozen=True)
class Azurite:
    """Where it is, and an account."""

    endpoint: str
    account: str
    key: str

    def make_container(self, name: str) -> None:
        now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        headers = {"x-ms-date": now, "x-ms-version": "2021-12-02"}
        what = f"/{self.account}/{self.account}/{name}\nrestype:container"
        asked = "PUT" + "\n" * 12 + "".join(f"{key}:{value}\n" for key, value in headers.items()) + what
        signed = hmac.new(base64.b64decode(self.key), asked.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(signed).decode()}"
        request = urllib.request.Request(
            f"{self.endpoint}/{name}?restype=container", b"", headers, method="PUT", unverifiable=True
        )
        request.add_unredirected_header("Content-Type", "")
        urllib.request.urlopen(request).close()


@contextlib.contextmanager
def running_azurite(folder: Path) -> Iterator[Azurite]:
    """Start it in a folder, and end it with the context."""
    assert PROGRAM is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    account, key = "cvbatchtests", base64.b64encode(secrets.token_bytes(32)).decode()
    process = subprocess.Popen(
        [PROGRAM, "--blobPort", str(port), "--location", str(folder), "--skipApiVersionCheck", "--disableTelemetry"],
        env={"AZURITE_ACCOUNTS": f"{account}:{key}", "PATH": str(Path(shutil.which("node") or "").parent)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not _listens(port):
            assert process.poll() is None, "azurite ended"
            assert time.monotonic() < deadline, "azurite did not start"
            time.sleep(0.2)
        yield Azurite(f"http://127.0.0.1:{port}/{account}", account, key)
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
