"""Where the paths of a job begin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cvbatch.config.job import Job
from cvbatch.config.job_file import load_job
from cvbatch.errors import JobError

JOB = """
source: {uri: photos}
models:
  - {model: resnet18, checkpoint: weights/own.pth, categories: names.txt}
  - {model: resnet18, as: b, checkpoint: ~/own.pth, categories: [cat, dog]}
output: {uri: ../labels/}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", "/home/me")
    return tmp_path / "jobs"


def load(folder: Path, text: str = JOB, *overrides: str, **defaults: Any) -> Job:
    (folder / "job.yaml").write_text(text)
    return load_job(str(folder / "job.yaml"), overrides=overrides, defaults=defaults)


def test_paths_in_a_job_file_are_relative_to_its_folder(folder: Path) -> None:
    job = load(folder)
    assert job.source.uri == str(folder / "photos")
    assert job.output.uri == f"{folder.parent}/labels/"
    assert job.models[0].checkpoint == str(folder / "weights" / "own.pth")
    assert job.models[0].categories == str(folder / "names.txt")
    assert job.models[1].checkpoint == "/home/me/own.pth"
    assert job.models[1].categories == ("cat", "dog")


def test_a_model_that_is_a_file_is_a_path(folder: Path) -> None:
    job = load(folder, JOB.replace("model: resnet18, checkpoint: weights/own.pth", "model: onnx:weights/own.onnx"))
    assert (job.models[0].model, job.models[0].checkpoint) == ("onnx", str(folder / "weights" / "own.onnx"))
    moved = load(folder, JOB, "models=[{model: onnx:own.onnx}, {model: 'onnx:s3://box/own.onnx', as: b}]")
    assert moved.models[0].checkpoint == f"{folder.parent}/elsewhere/own.onnx"
    assert moved.models[1].checkpoint == "s3://box/own.onnx"
    assert str(folder.parent / "elsewhere" / "own.onnx") in moved.local_files()


def test_a_relative_name_of_the_job_file_is_the_same(folder: Path) -> None:
    assert load(folder) == load_job("../jobs/job.yaml")


def test_paths_in_options_are_relative_to_the_current_folder(folder: Path) -> None:
    changes = ["models.0.checkpoint=mine.pth", "models.1.checkpoint=${HOME}/x.pth"]
    job = load(folder, JOB, *changes, source={"uri": ["a", "b/*.jpg"]}, output={"uri": "out"})
    assert job.source.uris == ("a", "b/*.jpg")
    assert job.output.uri == "out"
    elsewhere = folder.parent / "elsewhere"
    assert [model.checkpoint for model in job.models] == [f"{elsewhere}/mine.pth", "/home/me/x.pth"]
    assert job.models[0].categories == str(folder / "names.txt")


def test_several_sources_and_globs(tmp_path: Path, folder: Path) -> None:
    text = JOB.replace("uri: photos", "uri: [photos/*.jpg, '/data/**', s3://box/$HOME, 'file:///x']")
    assert load(folder, text).source.uris == (f"{folder}/photos/*.jpg", "/data/**", "s3://box//home/me", "file:///x")
    strange = tmp_path / "[2019]"
    strange.mkdir()
    assert load(strange, text).source.uris[0] == f"{tmp_path}/[[]2019]/photos/*.jpg"
    assert load(strange).source.uri == f"{tmp_path}/[2019]/photos"


def test_variables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOS", "2019")
    assert load(folder, JOB.replace("photos", "'a/${PHOTOS}/$PHOTOS.d'")).source.uri == f"{folder}/a/2019/2019.d"
    assert load(folder, JOB.replace("photos", "cost$5")).source.uri == f"{folder}/cost$5"
    assert load(folder, JOB.replace("photos", "a$$PHOTOS")).source.uri == f"{folder}/a$PHOTOS"
    (folder / "a$REAL").mkdir()
    assert load(folder, JOB.replace("photos", "a$REAL")).source.uri == f"{folder}/a$REAL"


@pytest.mark.parametrize(("given", "variable"), [("$NOT_SET/x", "NOT_SET"), ("/a/${NOT_SET}", "NOT_SET")])
def test_a_variable_that_is_not_set_is_refused(folder: Path, given: str, variable: str) -> None:
    with pytest.raises(JobError) as caught:
        load(folder, JOB.replace("names.txt", f"'{given}'"))
    name = f"models.0.categories: {given}: the environment variable {variable} is not set; write $$ for a $"
    assert str(caught.value) == name
    assert load(folder, JOB.replace("names.txt", f"'{given}'"), "models.0.categories=[a]").models[0].categories == (
        "a",
    )
