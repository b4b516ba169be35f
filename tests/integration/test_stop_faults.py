"""Reasons to stop: a full disk, too many errors, time or money used up, a node that is gone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.trials import Trial, one_line


@pytest.fixture
def trial(tmp_path: Path, ray_head: str) -> Trial:
    """A job on the standing head."""
    return Trial(tmp_path, ray_head)


@pytest.fixture
def small_disk(trial: Trial) -> Iterator[Path]:
    """The output on a file system of 400 kB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    output = Path(trial.output)
    output.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", output], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a file system")
    yield output
    subprocess.run(["umount", "-l", output], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(trial: Trial, small_disk: Path) -> None:
    trial.photos(600)
    trial.job(compute={"unit_rows": 4}, seconds=0.02)
    with trial.started() as start:
        trial.wait_for_commits(1)
        (small_disk / "filler").write_bytes(b"x" * (_free(small_disk) // 4096 * 4096))
        assert start.code == 1
        assert "No space left" in one_line(start)
    for record in trial.records("commit"):
        for file in record["files"]:
            assert (small_disk / file["path"]).stat().st_size == file["size"]
    (small_disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    assert trial.run().code == 0
    trial.proven(600)


def _free(folder: Path) -> int:
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize


@pytest.mark.slow
def test_too_many_errors_end_the_run_and_the_commonest_is_named(trial: Trial) -> None:
    trial.photos(1_400)
    for number in range(0, 1_400, 2):
        (trial.folder / "photos" / f"{number:05d}.png").write_bytes(b"no image at all")
    trial.job(compute={"unit_rows": 32})
    start = trial.run()
    assert start.code == 1
    assert "UnknownFormat" in one_line(start)
    assert "max_error_share" in one_line(start)
    committed = sum(file["statuses"]["ok"] for record in trial.records("commit") for file in record["files"])
    assert committed >= 400
    assert trial.run("--set", "compute.max_error_share=0.6").code == 0
    assert trial.proven(1_400)["status"].value_counts().to_dict() == {"ok": 700, "error": 700}


@pytest.mark.slow
@pytest.mark.parametrize(
    "limits",
    [
        pytest.param({"stop_after": "9s"}, id="time"),
        pytest.param({"max_cost": 0.01, "price_per_node_hour": 4}, id="money"),
    ],
)
def test_a_start_ends_in_time_and_the_next_goes_on(trial: Trial, limits: dict[str, object]) -> None:
    trial.photos(500)
    trial.job(compute={"unit_rows": 8, **limits}, seconds=0.03)
    start = trial.run()
    assert start.code == 1
    assert "stopped by compute.stop_after" in one_line(start)
    rows = sum(high - low for each in trial.records("commit") for file in each["files"] for low, high in file["ranges"])
    assert 0 < rows < 500
    trial.job(compute={"unit_rows": 8}, seconds=0.0)
    assert trial.run("--set", "models.0.options.seconds=0.03").code == 0
    trial.proven(500)


@pytest.mark.slow
@pytest.mark.parametrize("gpus", [0, 1])
def test_a_node_that_is_gone_costs_no_row(tmp_path: Path, gpus: int) -> None:
    """With logical GPUs the third actor finds no place any more, and its units are given up and done by the others."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    nodes = [
        cluster.add_node(num_cpus=3, num_gpus=gpus, object_store_memory=200_000_000, include_dashboard=False)
        for _ in range(3)
    ]
    try:
        trial = Trial(tmp_path, cluster.address)
        trial.photos(900)
        trial.job(compute={"unit_rows": 8, "num_actors": 3, "stalled_after": "20s"}, seconds=0.03)
        with trial.started() as start:
            trial.wait_for_commits(2)
            cluster.remove_node(nodes[2], allow_graceful=False)
            assert start.code == 0, start.err
        assert (trial.proven(900)["status"] == "ok").all()
    finally:
        cluster.shutdown()
