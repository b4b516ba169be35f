"""Closed loops on generated shapes: learned, and judged on images that were never seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cvbatch
from cvbatch.config.job import ModelConfig
from cvbatch.errors import JobError
from cvbatch.images.preprocess import apply_view
from cvbatch.inference.loading import load_network, probe_model
from cvbatch.inference.settings import REFERENCE
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import SHAPES, ShapeSet, generate_shapes
from cvbatch.training.fitting import TrainingReport
from tests.training.samples import train, train_job

UNTRAINED = {"model": "lraspp_mobilenet_v3_large", "weights": None}
"""No trained weights of torchvision are part of a package."""
JOBS: dict[str, dict[str, Any]] = {
    "detection": {
        "model": "nanodet_g",
        "image_size": 96,
        "stages": [{"epochs": 6, "rate": 0.001, "backbone_rate": 0.001, "warmup": 0, "schedule": "constant"}],
    },
    "segmentation": {
        "model": UNTRAINED,
        "image_size": 64,
        "stages": [{"epochs": 3, "rate": 0.003, "backbone_rate": 0.003, "warmup": 0, "schedule": "constant"}],
    },
}
TRUTHS = {"detection": "objects", "segmentation": "masks", "classification": "labels"}


def learn(shapes: ShapeSet, output: Path, task: str, **parts: Any) -> TrainingReport:
    truth = getattr(shapes, TRUTHS[task])
    return train(
        train_job(
            shapes.images, output, task=task, truth=str(truth), **{**JOBS.get(task, {}), "dropout": None, **parts}
        )
    )


def result_of(output: Path) -> ModelSpec:
    (spec,) = resolve_models([ModelConfig.model_validate({"model": str(output), "alias": "model"})])
    return probe_model(spec)


def run(spec: ModelSpec, image: Path) -> Any:
    """The answer of a result to an image, as a run gives it."""
    with Image.open(image) as opened:
        pixels = opened.convert("RGB")
    network = load_network(spec, device="cpu", setting=REFERENCE)
    return network.run_batch([apply_view(spec.view, pixels)], [pixels.size], [spec])[spec.alias][0], pixels.size


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> ShapeSet:
    return generate_shapes(tmp_path_factory.mktemp("shapes"), 15, longest_side=96)


def falls(report: TrainingReport) -> bool:
    losses = [sum(row["loss"].values()) for row in report.state.history]
    return losses[-1] < 0.9 * losses[0]


def test_a_detector_learns_and_its_folder_runs(shapes: ShapeSet, tmp_path: Path) -> None:
    report = learn(shapes, tmp_path / "out", "detection", augment={"crop": [0.6, 1.0]})
    assert falls(report)
    assert set(report.state.history[0]["loss"]) == {"classes", "boxes", "distances"}
    assert {"AP", "AP50"} <= set(report.best["scores"])
    spec = result_of(tmp_path / "out")
    assert spec.categories == (None, *SHAPES)
    assert spec.view.letterbox is not None
    assert spec.view.letterbox.size == (96, 96)
    spec = ModelSpec(**{**{name: getattr(spec, name) for name in ModelSpec.__slots__}, "score_threshold": 0.001})
    answer, size = run(spec, shapes.images / "00000.jpg")
    assert len(answer.boxes)
    assert set(answer.label_ids.tolist()) <= {1, 2, 3, 4}
    assert (answer.boxes >= 0).all()
    assert (answer.boxes <= np.tile(size, 2)).all()


def test_a_segmenter_learns_and_its_folder_runs(shapes: ShapeSet, tmp_path: Path) -> None:
    report = learn(shapes, tmp_path / "out", "segmentation", augment={"crop": [0.6, 1.0]})
    assert falls(report)
    assert set(report.state.history[0]["loss"]) == {"pixels"}
    assert report.plan.counts["background"] > sum(report.plan.counts[name] for name in SHAPES)
    spec = result_of(tmp_path / "out")
    assert spec.categories == (None, *SHAPES)
    answer, _ = run(spec, shapes.images / "00000.jpg")
    assert set(answer.label_ids.tolist()) <= {1, 2, 3, 4}


def test_models_and_options_that_cannot_learn_are_refused(shapes: ShapeSet, tmp_path: Path) -> None:
    for task, parts, message in (
        ("detection", {"model": {"model": "maskrcnn_resnet50_fpn", "weights": None}}, "also gives masks"),
        ("detection", {"model": "efficientnet_lite0"}, "cannot learn detection; expected a model such as nanodet_g"),
        ("segmentation", {"batch_size": 1}, "batch_size: expected at least 2 images"),
        ("detection", {"loss": {"label_smoothing": 0.1}}, "loss.label_smoothing: belongs to tasks with one class"),
        ("segmentation", {"loss": {"class_weights": {"hexagon": 2.0}}}, "got 'hexagon'"),
    ):
        with pytest.raises(JobError, match=message):
            learn(shapes, tmp_path / message[:9], task, **parts)


CLOSED_LOOPS: dict[str, tuple[int, str, float, dict[str, Any]]] = {
    "detection": (
        300,
        "AP50",
        0.80,
        {
            "image_size": 128,
            "batch_size": 8,
            "stages": [{"epochs": 5, "rate": 0.001, "backbone_rate": 0.001, "warmup": 0.1, "clip": 10}],
        },
    ),
}
"""Images, metric, what it must reach on images of another seed, and the job."""


@pytest.mark.slow
@pytest.mark.parametrize("task", CLOSED_LOOPS)
def test_a_closed_loop_finds_shapes_in_images_never_seen(task: str, tmp_path: Path) -> None:
    count, metric, least, parts = CLOSED_LOOPS[task]
    seen, unseen = generate_shapes(tmp_path / "seen", count), generate_shapes(tmp_path / "unseen", 100, seed=1)
    augment = {"crop": [0.6, 1.0], "flip": 0.5}
    learn(seen, tmp_path / "model", task, augment=augment, **parts)
    assert label_and_judge(tmp_path, unseen, task, metric) >= least


def label_and_judge(folder: Path, unseen: ShapeSet, task: str, metric: str) -> float:
    """Label images with a result by `cvbatch run`, and evaluate that."""
    command = [sys.executable, "-m", "cvbatch", "run", "--model", str(folder / "model")]
    command += ["--source", str(unseen.images), "--output", str(folder / "labels")]
    subprocess.run(command, check=True)
    report = cvbatch.evaluate(str(folder / "labels"), str(getattr(unseen, TRUTHS[task])))
    (values,) = [metrics.values for metrics in report.metrics.values()]
    return float(values[metric] or 0.0)
