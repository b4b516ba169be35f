"""The batch script on a real Slurm of two machines; Ray and cvbatch are stand-ins but in the last tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.cluster.stand_ins import CVBATCH_COMMAND, RAY_COMMAND, RAY_MODULE
from tests.conftest import make_photo
from tests.rigs.machines import wait_until
from tests.rigs.slurm import NODES, Slurm, running_slurm, why_not

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cluster" / "slurm" / "cvbatch.sbatch"


def test_shellcheck_has_nothing_to_say() -> None:
    command = [str(Path(sys.executable).with_name("shellcheck")), str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """The cluster; it starts within a second."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    # a short path: Ray's sockets lie below it
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder, running_slurm(Path(folder)) as running:
        yield running


@dataclass(frozen=True)
class User:
    """Somebody who submits jobs from a folder."""

    slurm: Slurm
    folder: Path
    environment: Mapping[str, str]

    def submit(self, job: Mapping[str, Any], *arguments: str, options: tuple[str, ...] = (), **more: str) -> str:
        """Submit a job; its number."""
        (self.folder / "job.yaml").write_text(json.dumps(job))
        command = ("sbatch", "--parsable", *options, str(SCRIPT), "job.yaml", *arguments)
        environment = {**self.environment, **more}
        return self.slurm.command(*command, cwd=self.folder, more=environment).strip()

    def told(self, number: str, restart: int = 0) -> dict[str, Any]:
        """What the stand-in of cvbatch saw, once it runs."""
        path = Path(self.environment["STAND_IN"], f"told-{number}-{restart}")
        wait_until(path.exists, f"job {number} runs for the {restart + 1}. time:\n{self.log(number)}", 30)
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def end(self, number: str, seconds: float = 30) -> tuple[str, str]:
        """Wait for a job's end; its state and exit code."""

        def over() -> bool:
            return self.slurm.job(number)["JobState"] not in ("PENDING", "RUNNING", "COMPLETING")

        wait_until(over, f"job {number} is over", seconds)
        job = self.slurm.job(number)
        return job["JobState"], job["ExitCode"]

    def log(self, number: str) -> str:
        path = self.folder / f"cvbatch-{number}.out"
        return path.read_text() if path.exists() else ""

    def signal(self, number: str, name: str) -> None:
        """Tell the batch script alone, as Slurm does before the time limit."""
        self.slurm.command("scancel", "--batch", f"--signal={name}", number)

    def stops(self, number: str) -> int:
        """How often the first start of cvbatch was told to stop."""
        return len(Path(self.environment["STAND_IN"], f"told-{number}-0.stopped").read_text().splitlines())

    def scratch(self) -> list[str]:
        """What lies on the nodes' own disks."""
        shown = [node.inside("ls", str(self.slurm.local)) for node in self.slurm.nodes.values()]
        return [name for command in shown for name in subprocess.check_output(command, text=True).split()]

    def left(self) -> list[str]:
        """What jobs left behind in the folder, besides the log."""
        return sorted(path.name for path in self.folder.glob(".cvbatch-*"))


@pytest.fixture
def user(slurm: Slurm, tmp_path: Path) -> User:
    """A user in whose environment Ray and cvbatch are stand-ins."""
    programs, modules = tmp_path / "bin", tmp_path / "lib"
    for path in (programs, modules / "ray", tmp_path / "jobs"):
        path.mkdir(parents=True)
    for name, text in (("ray", RAY_COMMAND), ("cvbatch", CVBATCH_COMMAND)):
        (programs / name).write_text(text.format(python=sys.executable))
        (programs / name).chmod(0o755)
    (modules / "ray" / "__init__.py").write_text(RAY_MODULE)
    more = {"PYTHONPATH": str(modules), "STAND_IN": str(tmp_path), "SLURM_TMPDIR": str(slurm.local)}
    return User(slurm, tmp_path / "jobs", {"PATH": _path(programs), **more})


def _path(programs: Path) -> str:
    return os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"]))


def test_a_job_runs_on_all_nodes_and_leaves_nothing(user: User) -> None:
    number = user.submit(
        {"codes": [0]}, "--strict", "--set", "models.0.as=two words", RAY_AUTH_TOKEN="of another cluster"
    )
    assert user.end(number) == ("COMPLETED", "0:0"), user.log(number)
    told = user.told(number)
    assert told["arguments"] == ["run", "job.yaml", "--strict", "--set", "models.0.as=two words", "--shared-filesystem"]
    assert told["address"] == f"10.231.7.1:{20_000 + int(number)}"
    assert Path(told["token"]).parent.parent == user.folder
    assert (told["token_length"], told["modes"], told["umask"]) == (64, ["0o600", "0o700"], "0o22")
    assert user.left() == []
    started = {name: (Path(user.environment["STAND_IN"]) / number / name).read_text().split() for name in NODES}
    assert "--head" in started["n1"]
    assert "--include-dashboard=false" in started["n1"]
    assert f"--address={told['address']}" in started["n2"]
    assert all("--num-cpus=2" in arguments and "--block" in arguments for arguments in started.values())


def test_a_wrong_request_is_not_requeued_and_a_node_alone_listens_on_loopback(user: User) -> None:
    number = user.submit({"codes": [2]}, options=("--nodes=1",))
    assert user.end(number) == ("FAILED", "2:0"), user.log(number)
    assert user.slurm.job(number)["Restarts"] == "0"
    assert user.told(number)["address"].startswith("127.0.0.1:")


@pytest.mark.slow
def test_a_wrong_request_is_not_requeued_at_the_time_limit_either(user: User) -> None:
    number = user.submit({"codes": [None], "stopped": 2}, options=("--nodes=1",))
    user.told(number)
    user.signal(number, "TERM")
    assert user.end(number) == ("FAILED", "2:0"), user.log(number)
    assert user.slurm.job(number)["Restarts"] == "0"


def test_no_job_file_is_a_wrong_request(user: User) -> None:
    number = user.slurm.command("sbatch", "--parsable", str(SCRIPT), cwd=user.folder, more=user.environment).strip()
    assert user.end(number) == ("FAILED", "2:0"), user.log(number)
    assert "expected a job file" in user.log(number)


def test_the_time_limit_requeues_and_the_job_completes(user: User) -> None:
    number = user.submit({"codes": [None, 0], "stopped": 1})
    first = user.told(number)
    user.signal(number, "TERM")
    wait_until(lambda: user.slurm.job(number)["JobState"] == "PENDING", f"job {number} is requeued", 20)
    assert user.left() == []
    assert user.scratch() == []
    user.slurm.command("scontrol", "update", f"JobId={number}", "StartTime=now+2")  # else it waits for two minutes
    assert user.end(number) == ("COMPLETED", "0:0"), user.log(number)
    assert user.told(number, 1) == first
    assert user.stops(number) == 1
    assert "requeued to go on" in user.log(number)


def test_restarts_have_an_end(user: User) -> None:
    number = user.submit({"codes": [None], "stopped": 1}, CVBATCH_MAX_RESTARTS="0")
    user.told(number)
    user.signal(number, "TERM")
    assert user.end(number) == ("FAILED", "1:0"), user.log(number)
    assert "CVBATCH_MAX_RESTARTS" in user.log(number)


def test_int_stops_without_a_restart(user: User) -> None:
    number = user.submit({"codes": [None], "stopped": 1})
    user.told(number)
    user.signal(number, "INT")
    assert user.end(number) == ("FAILED", "1:0"), user.log(number)
    assert user.slurm.job(number)["Restarts"] == "0"


def test_a_cancelled_job_stays_cancelled_and_is_told_once(user: User) -> None:
    number = user.submit({"codes": [None], "stopped": 1})
    user.told(number)
    user.slurm.command("scancel", number)
    assert user.end(number)[0] == "CANCELLED"
    assert user.stops(number) == 1
    assert user.left() == []
    assert user.slurm.job(number)["Restarts"] == "0"


@pytest.mark.parametrize("node", [pytest.param("n1", marks=pytest.mark.slow), "n2"])
def test_a_node_without_ray_ends_the_job(user: User, node: str) -> None:
    number = user.submit({"codes": [0]}, BROKEN=node)
    assert user.end(number) == ("FAILED", "1:0"), user.log(number)
    assert f"Ray did not start on {node}; see above" in user.log(number)
    assert "ray: this node is broken" in user.log(number)
    assert user.left() == []


def test_a_node_that_never_comes_ends_the_job(user: User) -> None:
    number = user.submit({"codes": [0]}, SILENT="n2", CVBATCH_START_SECONDS="2")
    assert user.end(number) == ("FAILED", "1:0"), user.log(number)
    assert "expected 2 Ray nodes within 2 s, got 1" in user.log(number)


@pytest.mark.slow
@pytest.mark.parametrize("node", NODES)
def test_a_node_that_is_lost_requeues_the_job(user: User, node: str) -> None:
    number = user.submit({"codes": [None, 0], "stopped": 1})
    user.told(number)
    user.slurm.nodes[node].stop()
    try:
        wait_until(lambda: user.slurm.job(number)["Restarts"] == "1", f"job {number} is requeued", 60)
    finally:
        user.slurm.start_node(node)
    user.slurm.wait_for_nodes()
    user.slurm.command("scontrol", "update", f"JobId={number}", "StartTime=now+2")
    assert user.end(number, 60) == ("COMPLETED", "0:0"), user.log(number)
    assert user.left() == []


@pytest.mark.slow
def test_a_run_on_two_nodes_with_ray(slurm: Slurm, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    for number in range(8):
        make_photo(folder / "photos" / f"{number}.jpg", seed=number)
    environment = {
        "PATH": _path(Path(sys.executable).parent),
        "PYTHONPATH": str(ROOT),
        "SLURM_TMPDIR": str(slurm.local),
    }
    user = User(slurm, folder, environment)
    job = {
        "source": {"uri": "photos"},
        "models": [{"model": "efficientnet_lite0"}],
        "output": {"uri": "labels"},
        "compute": {"precision": "fp32"},
    }
    number = user.submit(job, "--strict")
    assert user.end(number, 500) == ("COMPLETED", "0:0"), user.log(number)
    assert sorted(pd.read_parquet(folder / "labels" / "data")["row_id"]) == list(range(8))
    assert (user.left(), user.scratch()) == ([], [])
