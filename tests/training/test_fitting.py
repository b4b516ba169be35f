"""Whole trainings of a second, in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from cvbatch.config.job import ModelConfig
from cvbatch.errors import HaltError, OutputError
from cvbatch.images.decode import decode
from cvbatch.images.preprocess import apply_view
from cvbatch.inference.loading import load_network, probe_model
from cvbatch.inference.settings import REFERENCE
from cvbatch.models.resolve import resolve_models
from tests.training.samples import CLASSES, patterns, train, train_job

ALL = {"layers": "all", "epochs": 2, "rate": 0.003, "backbone_rate": 0.003, "optimizer": "sgd"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patterns(tmp_path_factory.mktemp("images") / "patterns")


def test_a_head_learns_and_the_folder_is_a_model(images: Path, tmp_path: Path) -> None:
    report = train(train_job(images, tmp_path / "out"))
    assert report.best["metric"] > 0.8
    losses = [row["loss"]["classes"] for row in report.state.history]
    assert losses[-1] < losses[0] / 2
    (spec,) = resolve_models([ModelConfig.model_validate({"model": str(tmp_path / "out")})])
    spec = probe_model(spec)
    assert (spec.categories, spec.view.crop) == (CLASSES, (32, 32))
    decoded = [decode((images / name / "000.png").read_bytes(), max_pixels=10**6) for name in CLASSES]
    pixels = [apply_view(spec.view, one.image) for one in decoded]
    network = load_network(spec, device="cpu", setting=REFERENCE)
    answers = network.run_batch(pixels, [(48, 48)] * 3, [spec])[spec.alias]
    assert [int(np.argmax(answer)) for answer in answers] == [0, 1, 2]


def test_a_finished_training_returns_at_once_and_a_changed_job_is_refused(images: Path, tmp_path: Path) -> None:
    job = train_job(images, tmp_path / "out")
    first = train(job)
    assert train(job).state.history == first.state.history
    with pytest.raises(OutputError, match=r"stages\.0\.rate is 0.01 in the run, 0.02 in the job"):
        train(train_job(images, tmp_path / "out", stages=[{"layers": "head", "epochs": 3, "rate": 0.02}]))


def test_features_that_are_computed_once_give_the_same_as_images(images: Path, tmp_path: Path) -> None:
    cached = train(train_job(images, tmp_path / "cached"))
    # these layers are the head, too, but their name says nothing of it
    plain = train(train_job(images, tmp_path / "plain", stages=[{"layers": ["_fc."], "epochs": 3, "rate": 0.01}]))
    first, second = (
        safetensors.numpy.load_file(tmp_path / name / "weights.safetensors") for name in ("cached", "plain")
    )
    assert max(np.abs(first[key] - second[key]).max() for key in first) < 1e-4
    assert cached.best["metric"] == plain.best["metric"]


def test_all_layers_learn_and_averages_are_kept(images: Path, tmp_path: Path) -> None:
    plain = train(train_job(images, tmp_path / "plain", stages=[ALL]))
    train(train_job(images, tmp_path / "averaged", stages=[ALL], ema=0.5))
    assert plain.state.history[1]["loss"]["classes"] < plain.state.history[0]["loss"]["classes"]
    first, second = (
        safetensors.numpy.load_file(tmp_path / name / "weights.safetensors")["_conv_stem.weight"]
        for name in ("plain", "averaged")
    )
    assert 0 < np.abs(first - second).max() < 0.1


def test_a_rate_that_diverges_ends_in_one_line(images: Path, tmp_path: Path) -> None:
    stages = [{**ALL, "rate": 1e6, "backbone_rate": 1e6, "warmup": 0, "epochs": 9}]
    with pytest.raises(HaltError, match=r"the loss .* in epoch \d, step \d.*lower stages\.0\.rate"):
        train(train_job(images, tmp_path / "out", stages=stages))
