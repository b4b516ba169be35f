"""Edits from a bucket to a bucket, of images and of members of archives, with workers and drivers that are killed."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvbatch as api
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.conftest import Cvbatch
from tests.edits.made_runs import made_run
from tests.edits.test_target_checks import left_half
from tests.rigs.objects import ObjectServer

COUNT = 120


@pytest.fixture
def endpoint(as_job: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of the server; Ray has a temporary folder of its own."""
    ray_folder = tempfile.mkdtemp(prefix="cvb-", dir="/tmp")  # sockets have short names
    monkeypatch.setenv("RAY_TMPDIR", ray_folder)
    yield as_job.endpoint
    shutil.rmtree(ray_folder, ignore_errors=True)


def large_photo(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (300, 400, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def archive(seeds: range) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as writer:
        for seed in seeds:
            data = large_photo(seed)
            info = tarfile.TarInfo(f"{seed}.png")
            info.size = len(data)
            writer.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.slow
def test_a_worker_and_a_driver_are_killed(
    as_job: ObjectServer, endpoint: str, out: str, tmp_path: Path, cvbatch: Cvbatch
) -> None:
    images, half = as_job.make_bucket("images"), COUNT // 2
    photos = {f"photos/{seed}.png": large_photo(seed) for seed in range(half)}
    as_job.put(images, {**photos, "photos/shard.tar": archive(range(half, COUNT)), "photos/broken.png": b"no image"})
    place = Location.from_uri(f"s3://{out}/run", StorageOptions.from_mapping({"endpoint_url": endpoint}))
    run = made_run(f"s3://{images}/photos", place, left_half, source={"endpoint_url": endpoint})
    to, storage = f"s3://{out}/to", ["--storage", f"endpoint_url={endpoint}"]
    command = ["redact", run, "--classes", "person", "--how", "pixelate", "--to", to, *storage, "--json"]
    first = subprocess.Popen(
        [sys.executable, "-m", "cvbatch", *command], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(first, lambda: bool(images_in(as_job, out)))
    os.kill(workers_of(first.pid)[0], signal.SIGKILL)
    wait_for(first, lambda: bool(as_job.content(out, "to/_audit/data/")))
    first.kill()
    first.wait()
    answer = cvbatch(*command)
    assert answer.code == 0, answer.err
    assert (answer.json["edited"], answer.json["files"], answer.json["errors"]) == (COUNT, COUNT, {"TruncatedImage": 1})
    assert cvbatch("verify", answer.json["audit"], "--deep", *storage).code == 0
    written = images_in(as_job, out)
    audit = api.read(answer.json["audit"], storage={"endpoint_url": endpoint})
    edited = audit[audit.status == "ok"]
    hashes = {paths[0]: hashes[0] for paths, hashes in zip(edited.edit_paths, edited.edit_sha256s, strict=True)}
    assert hashes == {path: hashlib.sha256(data).hexdigest() for path, data in written.items()}
    expected = {f"{seed}.png" if seed < half else f"shard.tar/{seed}.png" for seed in range(COUNT)}
    assert set(written) == expected


def images_in(server: ObjectServer, bucket: str) -> dict[str, bytes]:
    """Edited images by their relative paths."""
    content = {key.removeprefix("to/"): data for key, data in server.content(bucket, "to/").items()}
    return {path: data for path, data in content.items() if not path.startswith("_audit/")}


def wait_for(process: subprocess.Popen[bytes], is_true: object) -> None:
    deadline = time.monotonic() + 120
    while not is_true():  # type: ignore[operator]
        assert process.poll() is None, "it has ended before"
        assert time.monotonic() < deadline
        time.sleep(0.1)


def workers_of(driver: int) -> list[int]:
    """Processes of Ray below a driver that edit images."""
    parents, working = dict[int, int](), list[int]()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if b"EditStage" in (folder / "cmdline").read_bytes():
                working.append(int(folder.name))
        except OSError:
            continue  # it has ended
    return [process for process in working if driver in ancestors_of(process, parents)]


def ancestors_of(process: int, parents: dict[int, int]) -> Iterator[int]:
    while process in parents:
        process = parents[process]
        yield process
