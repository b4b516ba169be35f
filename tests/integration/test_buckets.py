"""Runs from a bucket to a bucket: killed, in a storm, without rights; on a real server."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cvbatch import read
from cvbatch.testing import seeded_checkpoint
from tests.conftest import Cvbatch
from tests.integration.faulty import RAISES
from tests.integration.trials import Trial, failed, one_line, send
from tests.rigs.faults import Fault, FaultProxy
from tests.rigs.objects import ObjectServer

NO_DELETE = Fault("status", method="DELETE", status=403, times=10**6)


@pytest.fixture
def images(object_server: ObjectServer) -> str:
    """An empty bucket that a job may read."""
    return object_server.make_bucket("images")


@pytest.fixture
def trial(
    tmp_path: Path, as_job: ObjectServer, images: str, out: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Trial]:
    """A job from a bucket to a bucket; its Ray has a temporary folder of its own."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", as_job.endpoint)
    ray_folder = tempfile.mkdtemp(prefix="cvb-", dir="/tmp")  # sockets have short names
    monkeypatch.setenv("RAY_TMPDIR", ray_folder)
    yield Trial(tmp_path, None, f"s3://{out}/run")
    shutil.rmtree(ray_folder, ignore_errors=True)


def upload(trial: Trial, server: ObjectServer, bucket: str, count: int, deeds: dict[int, int] | None = None) -> None:
    """Put the photos of a trial into a bucket, and name it in the job."""
    trial.photos(count, deeds or {})
    server.put(bucket, {f"photos/{path.name}": path.read_bytes() for path in (trial.folder / "photos").iterdir()})
    shutil.rmtree(trial.folder / "photos")
    trial.job(source=f"s3://{bucket}/photos", compute={"unit_rows": 8}, seconds=0.02)


@pytest.mark.parametrize("kills", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_a_driver_that_is_killed(trial: Trial, object_server: ObjectServer, images: str, out: str, kills: int) -> None:
    rows, draw = 60 * (kills + 1), random.Random(kills)
    upload(trial, object_server, images, rows, {5: RAISES})
    for done in range(kills):
        with trial.started() as start:
            trial.wait_for_commits(len(trial.records("commit")) + 1)
            time.sleep(draw.uniform(0, 2))
            start.kill()
            assert len(trial.records("open")) == done + 1
    start = trial.run("--takeover")
    assert start.code == 0, start.err
    assert failed(trial.proven(rows)) == {5: "ValueError"}
    covered = [row for record in trial.records("commit") for file in record["files"] for row in _rows(file)]
    assert sorted(covered) == list(range(rows)), "nothing that was committed is committed again"
    options = {
        "key": object_server.job.key,
        "secret": object_server.job.secret,
        "client_kwargs": {"endpoint_url": object_server.endpoint},
        # a client that idled since the test before may meet closed connections, which s3fs takes for missing files
        "skip_instance_cache": True,
    }
    assert len(pd.read_parquet(f"{trial.output}/data", storage_options=options)) == rows
    _has_no_secret(trial, object_server, out)


@pytest.mark.slow
def test_the_job_file_and_the_weights_lie_in_a_bucket_too(
    trial: Trial, object_server: ObjectServer, images: str, cvbatch: Cvbatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(trial.folder / "cache"))
    upload(trial, object_server, images, 6)
    model = seeded_checkpoint("squeezenet1_1", trial.folder)
    weights, names = Path(model["checkpoint"]), "".join(f"thing {number}\n" for number in range(1000))
    model |= {"checkpoint": f"s3://{images}/w.pth", "categories": f"s3://{images}/names.txt"}
    job = {"source": {"uri": f"s3://{images}/photos"}, "models": [model], "output": {"uri": trial.output}}
    files = {"w.pth": weights.read_bytes(), "names.txt": names.encode(), "job.yaml": yaml.safe_dump(job).encode()}
    object_server.put(images, files)
    weights.unlink()
    done = cvbatch("run", f"s3://{images}/job.yaml", "--storage", f"endpoint_url={object_server.endpoint}", "--json")
    assert done.code == 0, done.err
    labels = read(trial.output, columns=["classification_label"])["classification_label"]
    assert len(labels) == 6
    assert set(labels.str.startswith("thing ")) == {True}


@pytest.mark.slow
def test_a_driver_that_slept_through_its_replacement(trial: Trial, object_server: ObjectServer, images: str) -> None:
    upload(trial, object_server, images, 300)
    with trial.started() as old:
        trial.wait_for_commits(1)
        send(old, signal.SIGSTOP)
        new = trial.run("--takeover")
        assert new.code == 0, new.err
        send(old, signal.SIGCONT)
        assert old.code == 1
        assert "another attempt has taken over" in one_line(old)
    trial.proven(300)


@pytest.mark.slow
def test_a_storm_and_no_right_to_delete_cost_a_retry_and_nothing_else(
    trial: Trial,
    object_server: ObjectServer,
    images: str,
    faults: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    cvbatch: Cvbatch,
) -> None:
    upload(trial, object_server, images, 40, {3: RAISES})
    monkeypatch.setenv("AWS_ENDPOINT_URL", faults.endpoint)
    with faults.doing(Fault("status", "GET", r"photos/0001[4-6]\.png", times=10**6), NO_DELETE):
        start = trial.run()
        assert start.code == 0, start.err
        lost = dict.fromkeys((14, 15, 16), "UnavailableError")
        assert failed(trial.proven(40)) == {3: "ValueError", **lost}
        again = cvbatch("retry", trial.output, "--errors", "all")
        assert again.code == 2, again.err
        assert "requires the right to delete" in again.err
    again = cvbatch("retry", trial.output, "--errors", "transient", "--json")
    assert again.code == 0, again.err
    assert failed(trial.proven(40)) == {3: "ValueError"}


@pytest.mark.slow
def test_images_that_nobody_may_read_stop_the_run_at_once(
    trial: Trial, object_server: ObjectServer, images: str, faults: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(trial, object_server, images, 24)
    monkeypatch.setenv("AWS_ENDPOINT_URL", faults.endpoint)
    with faults.doing(Fault("status", "GET", r"photos/0", status=403, times=10**6)):
        start = trial.run()
    assert start.code == 2
    assert "none of the 8 images that were tried can be read" in one_line(start)
    assert not trial.records("open")


def _has_no_secret(trial: Trial, server: ObjectServer, out: str) -> None:
    """Nothing that was written, by us or by Ray, repeats the secret that everything was done with."""
    files = [path for folder in (trial.folder, Path(os.environ["RAY_TMPDIR"])) for path in folder.rglob("*")]
    assert any("session" in str(path) for path in files), "the logs of Ray are among them"
    written = [path.read_bytes() for path in files if path.is_file()] + list(server.content(out).values())
    assert not [data for data in written if server.job.secret.encode() in data]


def _rows(file: dict[str, list[list[int]]]) -> Iterator[int]:
    for low, high in file["ranges"]:
        yield from range(low, high)
