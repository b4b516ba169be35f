"""A cluster of several machines, each with an address of its own: what is lost, late, pinned or not to be reached."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Answer
from tests.integration.trials import Trial
from tests.rigs.clusters import RayCluster, running_cluster
from tests.rigs.machines import wait_until, why_not

DRIVER = """
import os
os.environ.update(CVBATCH_CLUSTER_LOOK_SECONDS="0.5", CVBATCH_CLUSTER_SETTLED_SECONDS="3")
from cvbatch.__main__ import run
run()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """A head without machines that work; those that a test adds stay for the next one."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    # a short path: Ray's sockets lie below it
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder, running_cluster(Path(folder)) as running:
        yield running


@pytest.fixture
def pair(cluster: RayCluster) -> RayCluster:
    """The cluster with two machines that work, each of which can be told from the other."""
    if "one" not in cluster.workers:
        cluster.add("one", labels={"part": "models"})
    if "two" not in cluster.workers:
        cluster.add("two", resources={"decoder": 1})
    cluster.wait_for_nodes()
    return cluster


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path, None)


def submit(cluster: RayCluster, trial: Trial, *arguments: str) -> Answer:
    """Hand a job to the cluster and follow it to its end."""
    return cluster.cvbatch(
        "submit", "job.yaml", "--address", cluster.url, "--follow", "--json", *arguments, cwd=trial.folder
    )


def begin(cluster: RayCluster, trial: Trial) -> subprocess.Popen[str]:
    """Start a job with a driver that attaches to the cluster, and soon notices who comes and goes."""
    command = (sys.executable, "-c", DRIVER, "run", "job.yaml", "--json")
    return cluster.begin(*command, cwd=trial.folder, RAY_ADDRESS=cluster.address)


def end(started: subprocess.Popen[str]) -> None:
    """Wait for the end of a start, which must be a good one."""
    _, err = started.communicate(timeout=300)
    assert started.returncode == 0, err


def record(trial: Trial) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(trial.output, "_cvbatch", "run.json").read_text())
    return content


def hosts(trial: Trial) -> set[str]:
    """The machines that predicted."""
    return {worker["host"] for worker in record(trial)["workers"]}


@pytest.mark.slow
def test_a_job_runs_across_machines(pair: RayCluster, trial: Trial) -> None:
    trial.photos(120)
    trial.job(compute={"unit_rows": 4}, seconds=0.05)
    answer = submit(pair, trial, "--shared-filesystem")
    assert answer.code == 0, answer.err
    nodes = {node["address"]: node["host"] for node in record(trial)["cluster"]["nodes"]}
    assert nodes == {machine.address: machine.name for machine in (pair.head, *pair.workers.values())}
    assert hosts(trial) == {"one", "two"}
    assert (trial.proven(120)["status"] == "ok").all()


def test_paths_that_not_all_machines_may_see_are_refused(pair: RayCluster, trial: Trial) -> None:
    trial.photos(1)
    trial.job()
    refused = (
        submit(pair, trial),
        pair.cvbatch("run", "job.yaml", "--json", cwd=trial.folder, RAY_ADDRESS=pair.address),
    )
    for answer in refused:
        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1), answer.err
        assert "3 machines: use a bucket, or add --shared-filesystem" in answer.err
    assert not Path(trial.output, "data").exists()


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["killed", "cut off"])
def test_a_machine_that_is_lost_costs_no_row(pair: RayCluster, trial: Trial, lost: str) -> None:
    """What is left has two processes that predict, and no CPU for decoding, until it is shared out anew."""
    hurry = trial.folder / "hurry"
    trial.photos(400)
    trial.job(compute={"unit_rows": 4, "shared_filesystem": True}, seconds=0.05, hurry=str(hurry))
    started = begin(pair, trial)
    trial.wait_for_commits(2)
    if lost == "killed":
        pair.kill("two")
        pair.wait_for_nodes()
    else:
        machine = pair.cut_off("two")
        pair.wait_for_nodes()
        pair.network.heal(machine)  # what still runs there must not harm
    hurry.touch()
    end(started)
    assert record(trial)["pools"]["num_actors"] == 1, "it was shared out anew"
    assert (trial.proven(400)["status"] == "ok").all()


@pytest.mark.slow
def test_stages_run_where_they_are_pinned_to(pair: RayCluster, trial: Trial) -> None:
    """The images are on the head, which plans, and on the machine that decodes."""
    trial.photos(24)
    images = pair.network.local / "images"
    for machine in (pair.head, pair.workers["two"]):
        machine.call("cp", "-rT", str(trial.folder / "photos"), str(images))
    stages = {"decode": {"resources": {"decoder": 0.01}}, "predict": {"labels": {"part": "models"}}}
    trial.job(source=str(images), compute={"unit_rows": 4, "shared_filesystem": True, **stages})
    end(begin(pair, trial))
    assert (trial.proven(24)["status"] == "ok").all()
    assert hosts(trial) == {"one"}


@pytest.mark.slow
def test_a_run_waits_for_the_first_machine_that_works(cluster: RayCluster, trial: Trial) -> None:
    for name in list(cluster.workers):
        cluster.kill(name)
    cluster.wait_for_nodes()
    trial.photos(8)
    trial.job(compute={"shared_filesystem": True})
    started = begin(cluster, trial)
    cluster.wait_for_driver()
    assert not Path(trial.output, "data").exists()
    cluster.add("one", labels={"part": "models"})
    end(started)
    assert (trial.proven(8)["status"] == "ok").all()
    assert hosts(trial) == {"one"}


@pytest.mark.slow
def test_a_machine_that_joins_gets_work_and_is_seen(pair: RayCluster, trial: Trial) -> None:
    hurry = trial.folder / "hurry"
    trial.photos(2_000)
    trial.job(compute={"unit_rows": 4, "shared_filesystem": True}, seconds=0.1, hurry=str(hurry))
    started = begin(pair, trial)
    trial.wait_for_commits(2)
    pair.add("three")

    def predicts() -> bool:
        answer = pair.cvbatch("status", trial.output, "--json", cwd=trial.folder)
        return any(node["host"] == "three" and node["predicting"] for node in answer.json["nodes"])

    try:
        wait_until(predicts, "the new machine predicts", 120)
        hurry.touch()
        end(started)
    finally:
        pair.kill("three")
    assert hosts(trial) == {"one", "two", "three"}
    assert (trial.proven(2_000)["status"] == "ok").all()
