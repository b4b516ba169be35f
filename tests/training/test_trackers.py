"""What TensorBoard and MLflow are told, read back by their own readers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cvbatch.config.train_job import TrainJob
from cvbatch.engine.training_workers import work_in_process
from cvbatch.errors import UsageError
from cvbatch.output.store import open_store
from cvbatch.training.fitting import train_model
from cvbatch.training.log import TrainingLog
from cvbatch.training.plan import TrainingPlan, make_training_plan
from cvbatch.training.trackers.telling import Trackers
from tests.training.samples import patterns, train_job

needs_mlflow = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs cvbatch[mlflow]")


def row(epoch: int) -> dict[str, Any]:
    """An epoch of four steps, of which two are shown."""
    steps = 4 * epoch
    return {
        "epoch": epoch, "stage": 0, "steps": steps, "loss": {"boxes": 0.5, "classes": 1.0 / epoch}, "metric": 0.25,
        "scores": {"AP": 0.25 * epoch, "AP small": None}, "rate": 0.1, "seconds": 10.0, "images_per_second": 24.0,
        "waiting": 0.5, "points": [[steps - 3, 2.0, 0.2], [steps - 1, 1.5, 0.1]],
    }  # fmt: skip


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    return train_job(patterns(tmp_path / "patterns", 6), tmp_path / "out")


@pytest.fixture
def plan(job: TrainJob) -> TrainingPlan:
    return make_training_plan(open_store(job.output.location), job, lambda phrase: None)


def scalars(folder: Path) -> dict[str, list[tuple[float, int, float]]]:
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return {
        name: [(event.wall_time, event.step, event.value) for event in reader.Scalars(name)]
        for name in reader.Tags()["scalars"]
    }


def test_event_files_have_each_epoch_once_also_after_another_attempt(tmp_path: Path, plan: TrainingPlan) -> None:
    store = open_store(str(tmp_path / "out"))
    first = Trackers(["tensorboard"], store, plan)
    first.tell_epochs([row(1)])
    assert scalars(tmp_path / "out" / "tensorboard")["validation/AP"] == [(plan.created_at + 10, 4, 0.25)]
    second = Trackers(["tensorboard"], store, plan)
    second.tell_epochs([row(1)])
    second.tell_epochs([row(1), row(2)])
    second.close({})
    told = scalars(tmp_path / "out" / "tensorboard")
    started = plan.created_at
    assert told["validation/AP"] == [(started + 10, 4, 0.25), (started + 20, 8, 0.5)]
    assert told["loss/classes"] == [(started + 10, 4, 1.0), (started + 20, 8, 0.5)]
    assert [(time, step) for time, step, _ in told["loss/total"]] == [
        (started + 5, 1), (started + 10, 3), (started + 15, 5), (started + 20, 7)
    ]  # fmt: skip
    assert [value for _, _, value in told["rate"]] == pytest.approx([0.2, 0.1, 0.2, 0.1])
    assert "validation/AP small" not in told
    assert len(list((tmp_path / "out" / "tensorboard").iterdir())) == 1


def test_a_training_tells_what_its_log_holds(tmp_path: Path, job: TrainJob) -> None:
    train_model(job.model_copy(update={"log": ("tensorboard",)}), judged=False, run_workers=work_in_process)
    told = scalars(tmp_path / "out" / "tensorboard")
    history = TrainingLog(open_store(str(tmp_path / "out"))).state.history
    assert [value for _, _, value in told["validation/top-1"]] == pytest.approx([one["metric"] for one in history])
    assert len(told["loss/total"]) == sum(len(one["points"]) for one in history)


def test_a_tracker_that_fails_is_given_up_and_named(tmp_path: Path, plan: TrainingPlan) -> None:
    store = open_store(str(tmp_path / "out"))
    (tmp_path / "out" / "tensorboard").write_text("in the way")
    trackers = Trackers(["tensorboard"], store, plan)
    trackers.tell_epochs([row(1)])
    trackers.tell_epochs([row(1), row(2)])
    trackers.close({})
    (note,) = trackers.notes
    assert note.startswith("log: tensorboard was given up: ")


def test_mlflow_needs_its_package_and_a_server(
    tmp_path: Path, plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UsageError, match=r"log: mlflow needs (mlflow: pip install 'cvbatch\[mlflow\]'|MLFLOW_TRACK)"):
        Trackers(["mlflow"], open_store(str(tmp_path / "out")), plan)


@needs_mlflow
@pytest.mark.slow
def test_mlflow_has_each_epoch_once_also_after_another_attempt(
    tmp_path: Path, plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/runs")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = open_store(str(tmp_path / "out"))
    Trackers(["mlflow"], store, plan).tell_epochs([row(1)])
    second = Trackers(["mlflow"], store, plan)
    second.tell_epochs([row(1), row(2)])
    second.close({"README.md": b"# Card"})
    assert second.notes == []
    client = MlflowClient()
    experiment = client.get_experiment_by_name("cvbatch")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "out"
    assert run.data.params["model.model"] == "efficientnet_lite0"
    assert run.data.params["data.sha256"] == plan.data_sha256
    told = client.get_metric_history(run.info.run_id, "validation/AP")
    assert [(one.step, one.value, one.timestamp) for one in told] == [
        (4, 0.25, int(1000 * (plan.created_at + 10))), (8, 0.5, int(1000 * (plan.created_at + 20)))
    ]  # fmt: skip
    assert len(client.get_metric_history(run.info.run_id, "loss/total")) == 4
    assert [one.path for one in client.list_artifacts(run.info.run_id)] == ["README.md"]
