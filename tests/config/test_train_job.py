from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cvbatch.config.train_file import load_train_job
from cvbatch.config.train_job import NO_CHANGES, AugmentConfig, TrainJob
from cvbatch.errors import JobError

TEXT = """
task: classification
model: resnet18
source: photos
truth: labels.csv
output: out
"""


def job_file(folder: Path, text: str = TEXT) -> str:
    path = folder / "job.yaml"
    path.write_text(text)
    return str(path)


def job(**parts: Any) -> TrainJob:
    sections = {"task": "classification", "model": "resnet18", "source": "a", "truth": "b", "output": "c"}
    return TrainJob.model_validate({**sections, **parts})


def test_paths_are_relative_to_the_file_and_those_of_options_to_the_current_folder(tmp_path: Path) -> None:
    loaded = load_train_job(job_file(tmp_path), overrides=["output.uri=other", "model=resnet50"])
    assert (loaded.source.uri, loaded.truth.uri) == (str(tmp_path / "photos"), str(tmp_path / "labels.csv"))
    assert loaded.output.uri == "other"
    assert loaded.model.model == "resnet50"


def test_options_reach_into_what_is_written_short(tmp_path: Path) -> None:
    loaded = load_train_job(job_file(tmp_path), overrides=["model.weights=null", "truth.label_column=kind"])
    assert loaded.model.weights is None
    assert loaded.truth.label_column == "kind"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stagess: []", "did you mean 'stages'"),
        ("stages: [{layers: head}]", r"stages\.0\.epochs: missing"),
        ("split: {validation: 1}", r"split\.validation: expected .*less than 1"),
        ("batch_size: 5\ncompute: {workers: 2}", "expected a multiple of compute.workers, 2, got 5"),
        ("augment: {crop: [0.9, 0.5]}", "expected two shares of the area"),
    ],
)
def test_wrong_keys_are_named_in_one_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(JobError, match=message) as caught:
        load_train_job(job_file(tmp_path, f"{TEXT}{line}\n"))
    assert "\n" not in str(caught.value)


def test_epochs_know_their_stage() -> None:
    two = job(stages=[{"layers": "head", "epochs": 2}, {"epochs": 3}])
    assert [two.stage_of(epoch) for epoch in range(6)] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)]
    assert two.epochs == 5


def test_a_head_alone_sees_images_as_they_are_unless_its_stage_says_otherwise() -> None:
    own = {"layers": "head", "epochs": 1, "augment": {"flip": 0.25}}
    three = job(stages=[{"layers": "head", "epochs": 1}, {"epochs": 1}, own])
    assert [three.changes_in(stage) for stage in range(3)] == [NO_CHANGES, AugmentConfig(), AugmentConfig(flip=0.25)]
    assert job(augment="none").changes_in(1) == NO_CHANGES


def test_where_a_training_runs_is_no_part_of_its_identity() -> None:
    assert job().identity() == job(output="d", compute={"workers": 2, "device": "cpu"}).identity()
    assert job().identity() != job(compute={"precision": "bf16"}).identity()
    assert job().identity() != job(seed=1).identity()
