"""Trainings whose processes are killed or interrupted."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from cvbatch.config.train_job import TrainJob
from cvbatch.output.store import LocalStore
from cvbatch.training.fitting import train_model
from cvbatch.training.log import TrainingLog
from tests.training.processes import work_in_processes
from tests.training.samples import patterns, train, train_job

STAGES = [
    {"layers": "head", "epochs": 1, "rate": 0.01},
    {"layers": "all", "epochs": 2, "rate": 0.003, "optimizer": "sgd", "augment": {"crop": [0.5, 1]}},
]
"""With everything that has a state: two optimizers, random changes and dropout."""
PARTS: dict[str, Any] = {"stages": STAGES, "ema": 0.9, "dropout": 0.2, "compute": {"checkpoint_minutes": 1e-6}}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patterns(tmp_path_factory.mktemp("images") / "patterns", 8)


def wait_until(is_reached: Callable[[TrainingLog], bool], output: Path) -> TrainingLog:
    """Wait until a log says something."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        log = TrainingLog(LocalStore(str(output)))
        if is_reached(log):
            return log
        time.sleep(0.05)
    raise AssertionError("it takes too long")


def in_second_epoch(log: TrainingLog) -> bool:
    return log.state.position.epoch == 1 and log.state.position.step >= 1


def check_same_weights(first: Path, second: Path) -> None:
    one, two = (load_file(folder / "weights.safetensors") for folder in (first, second))
    assert one.keys() == two.keys()
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


def test_a_killed_process_goes_on_with_equal_weights(images: Path, tmp_path: Path) -> None:
    job = train_job(images, tmp_path / "killed", **PARTS)
    process = multiprocessing.get_context("spawn").Process(target=train, args=(job,))
    process.start()
    wait_until(in_second_epoch, tmp_path / "killed")
    process.kill()
    process.join()
    before = TrainingLog(LocalStore(str(tmp_path / "killed"))).state
    assert not before.is_final
    report = train(job)
    assert [row["epoch"] for row in report.state.history] == [1, 2, 3]
    assert report.state.epoch == 2, "attempts"
    train(train_job(images, tmp_path / "undisturbed", **PARTS))
    check_same_weights(tmp_path / "killed", tmp_path / "undisturbed")
    assert len(list((tmp_path / "killed" / "_cvbatch/training/checkpoints").iterdir())) == 2, "the last and the best"


def test_a_request_to_stop_ends_with_a_checkpoint(images: Path, tmp_path: Path) -> None:
    parts = {**PARTS, "compute": {}, "stages": [{"layers": "head", "epochs": 2000}]}
    job = train_job(images, tmp_path / "out", **parts)

    def stop_soon(work: Any, request: Any, watch: Any, ask_to_stop: Any, report: Any) -> Any:
        ask_to_stop()
        return work_in_processes(work, request, watch, ask_to_stop, report)

    with pytest.raises(KeyboardInterrupt):
        train_model(job, run_workers=stop_soon)
    state = TrainingLog(LocalStore(str(tmp_path / "out"))).state
    assert state.checkpoint is not None
    assert 0 < 1000 * state.position.epoch + state.position.step < 2_000_000
    assert not state.is_final


def job_file(job: TrainJob, folder: Path) -> str:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job.model_dump(mode="json", exclude_defaults=True)))
    return str(path)


def start_command(path: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cvbatch", "train", path]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_ended_goes_on(images: Path, tmp_path: Path, number: signal.Signals) -> None:
    parts = {**PARTS, "stages": [STAGES[0], {**STAGES[1], "epochs": 3}]}
    path = job_file(train_job(images, tmp_path / "out", **parts), tmp_path)
    first = start_command(path)
    wait_until(in_second_epoch, tmp_path / "out")
    first.send_signal(number)
    _, error = first.communicate(timeout=100)
    if number != signal.SIGKILL:
        assert first.returncode == 1
        assert f"stopped; the last checkpoint is kept. Go on with: cvbatch train {path}" in error
        assert "Traceback" not in error
    second = start_command(path)
    answer, error = second.communicate(timeout=200)
    assert second.returncode == 0, error
    assert "of 4" in answer
    train(train_job(images, tmp_path / "undisturbed", **parts))
    check_same_weights(tmp_path / "out", tmp_path / "undisturbed")


@pytest.mark.slow
def test_a_worker_that_is_killed_is_started_again(images: Path, tmp_path: Path) -> None:
    stages = [STAGES[0], {**STAGES[1], "epochs": 3}]
    parts = {**PARTS, "stages": stages, "compute": {"workers": 2, "checkpoint_minutes": 1e-6}}
    process = start_command(job_file(train_job(images, tmp_path / "out", **parts), tmp_path))
    wait_until(in_second_epoch, tmp_path / "out")
    os.kill(worker_of(process.pid), signal.SIGKILL)
    answer, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    state = TrainingLog(LocalStore(str(tmp_path / "out"))).state
    assert [row["epoch"] for row in state.history] == [1, 2, 3, 4]
    assert state.epoch == 1, "attempts"
    assert "of 4" in answer


def worker_of(driver: int) -> int:
    """A process of Ray Train that belongs to a driver."""
    parents = {int(path.parent.name): int(path.read_text().rpartition(")")[2].split()[1]) for path in _stats()}

    def belongs(process: int) -> bool:
        return process == driver or (process in parents and parents[process] > 1 and belongs(parents[process]))

    return next(
        process
        for process in parents
        if b"RayTrainWorker" in Path(f"/proc/{process}/cmdline").read_bytes() and belongs(process)
    )


def _stats() -> list[Path]:
    return list(Path("/proc").glob("[0-9]*/stat"))
