"""A student that learns from the predictions of a teacher alone, in real runs and trainings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import cvbatch
from cvbatch.testing import generate_shapes
from tests.training.labelling import label_images, run_job
from tests.training.samples import patterns, train, train_job

HEAD = {"layers": "head", "epochs": 12, "rate": 0.02}


def accuracies(folder: Path, images: Path, truth: Path) -> tuple[float, float]:
    """Top-1 accuracy of teacher and student on images, by one run of both."""
    names = ("teacher", "student")
    models = [{"model": str(folder / name), "as": name} for name in names]
    label_images(run_job(images, folder / "both", *models))
    reports = [cvbatch.evaluate(str(folder / "both"), str(truth), model=name) for name in names]
    teacher, student = (report.metrics["classification"].values["top-1"] for report in reports)
    assert teacher is not None
    assert student is not None
    return teacher, student


def learn_from_teacher(folder: Path, photos: Path, **parts: Any) -> None:
    """Label photos with the model in `teacher`, and learn `student` from that alone."""
    label_images(run_job(photos, folder / "labels", {"model": str(folder / "teacher"), "as": "shape"}))
    report = train(train_job(photos, folder / "student", truth=str(folder / "labels"), **parts))
    assert report.plan.trained + report.plan.validated == len(list(photos.iterdir()))
    assert report.state.history[-1]["loss"]["classes"] < report.state.history[0]["loss"]["classes"]


def test_a_student_comes_near_its_teacher(tmp_path: Path) -> None:
    train(train_job(patterns(tmp_path / "known", 12), tmp_path / "teacher", stages=[HEAD]))
    photos = tmp_path / "photos"
    photos.mkdir()
    for image in patterns(tmp_path / "classes", 12, seed=1).rglob("*.png"):
        shutil.copy(image, photos / f"{image.parent.name}-{image.name}")
    learn_from_teacher(tmp_path, photos, stages=[{**HEAD, "epochs": 20}])
    unseen = patterns(tmp_path / "unseen", 10, seed=2)
    teacher, student = accuracies(tmp_path, unseen, unseen)
    assert teacher > 0.8
    assert student >= 0.95 * teacher


@pytest.mark.slow
def test_a_student_reaches_95_percent_of_its_teacher_on_shapes(tmp_path: Path) -> None:
    known, photos, unseen = (
        generate_shapes(tmp_path / name, count, seed=seed, longest_side=96)
        for name, count, seed in (("known", 400, 1), ("photos", 600, 2), ("unseen", 300, 3))
    )
    parts = {"image_size": 96, "batch_size": 32, "stages": [{**HEAD, "epochs": 20, "rate": 0.01}]}
    train(train_job(known.images, tmp_path / "teacher", truth=str(known.labels), **parts))
    learn_from_teacher(tmp_path, photos.images, **parts)
    teacher, student = accuracies(tmp_path, unseen.images, unseen.labels)
    assert teacher > 0.6
    assert student >= 0.95 * teacher
