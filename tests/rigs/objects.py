"""A real S3 server on loopback, with an identity that may do everything and one that may do what a job needs."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.config
import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

REGION = "us-east-1"
_RIGHTS = ("Read:images*", "List:images*", "Read:out*", "List:out*", "Write:out*")
_HIGHEST_PORT = 55_535
"""The server takes each of its ports plus 10,000, too."""
_VOLUMES = 2_000
"""Files of data that it may have: each bucket needs its own, and left alone it counts by the room on the disk."""


@dataclass(frozen=True)
class Identity:
    """Who asks."""

    key: str
    secret: str

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret, "AWS_REGION": REGION}


@dataclass(frozen=True)
class ObjectServer:
    """Where it is, and who may do what; `job` reads buckets `images*` and writes buckets `out*`."""

    endpoint: str
    admin: Identity
    job: Identity

    def client(self, identity: Identity | None = None) -> Any:
        """A client of another make than ours."""
        who = identity or self.admin
        return botocore.session.Session().create_client(
            "s3",
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=who.key,
            aws_secret_access_key=who.secret,
            config=botocore.config.Config(retries={"total_max_attempts": 2}, s3={"addressing_style": "path"}),
        )

    def make_bucket(self, kind: str = "out") -> str:
        """A new bucket; what it is called says what a job may do with it. A hundred of them make the server slow."""
        name = f"{kind}-{uuid.uuid4().hex[:12]}"
        with contextlib.closing(self.client()) as client:
            client.create_bucket(Bucket=name)
        return name

    def ensure_bucket(self, name: str) -> None:
        """Create a bucket of this name, unless it exists."""
        with contextlib.closing(self.client()) as client:
            if name not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=name)

    def put(self, bucket: str, objects: dict[str, bytes]) -> None:
        with contextlib.closing(self.client()) as client:
            for key, data in objects.items():
                client.put_object(Bucket=bucket, Key=key, Body=data)

    def empty(self, bucket: str) -> None:
        """Remove all that a bucket holds."""
        with contextlib.closing(self.client()) as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            for key in [entry["Key"] for page in pages for entry in page.get("Contents", [])]:
                client.delete_object(Bucket=bucket, Key=key)

    def content(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Everything that lies below a prefix."""
        with contextlib.closing(self.client()) as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
            return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


@contextlib.contextmanager
def running_server(folder: Path) -> Iterator[ObjectServer]:
    """Start the server in a folder, and end it with the context."""
    admin, job = (Identity(f"cvbatch-{name}", secrets.token_hex(16)) for name in ("admin", "job"))
    rights = [("admin", admin, ("Admin", "Read", "List", "Tagging", "Write")), ("job", job, _RIGHTS)]
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": who.key, "secretKey": who.secret}],
            "actions": list(actions),
        }
        for name, who, actions in rights
    ]
    identities.append({"name": "anonymous", "actions": ["Read:out-open*"]})  # as a bucket that publishes a web site
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    data = folder / "data"
    data.mkdir()
    ports = dict(zip(("master", "volume", "filer", "s3", "admin"), _free_ports(5), strict=True))
    command = [
        str(Path(sys.executable).with_name("weed")),
        "-logtostderr=true",
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
    ]
    command += [f"-s3.config={config}", *(f"-{name}.port={port}" for name, port in ports.items())]
    command += ["-master.volumeSizeLimitMB=64", f"-volume.max={_VOLUMES}"]
    command += ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    server = ObjectServer(f"http://127.0.0.1:{ports['s3']}", admin, job)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            _wait_for(server, process, folder / "log")
            yield server
        finally:
            process.kill()  # it takes seconds to end in good order, and nothing in it is needed any more
            process.wait()
            for port in (port + more for port in ports.values() for more in (0, 10_000)):
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink(missing_ok=True)


def _wait_for(server: ObjectServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended: {log.read_text(errors='replace')[-2000:]}"
        try:
            server.put(server.make_bucket("images"), {"probe": b"1"})
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("the object server did not start")


def _free_ports(count: int) -> list[int]:
    """Ports that are free together with those 10,000 above them."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            port = 20_000 + secrets.randbelow(_HIGHEST_PORT - 20_000)
            with contextlib.suppress(OSError):
                for each in (port, port + 10_000):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", each))
                found.append(port)
    return found
