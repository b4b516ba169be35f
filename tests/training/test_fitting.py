"""Whole trainings of a second, in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from torch import nn

from cvbatch.config.job import ModelConfig
from cvbatch.errors import HaltError, OutputError
from cvbatch.images.decode import decode
from cvbatch.images.preprocess import apply_view
from cvbatch.inference.loading import load_network, probe_model
from cvbatch.inference.settings import REFERENCE
from cvbatch.inference.torch.efficientnet_lite0 import construct_lite0
from cvbatch.models.resolve import resolve_models
from cvbatch.output.store import LocalStore
from cvbatch.planning.plan import make_plan
from cvbatch.sources import open_source
from cvbatch.training.torch.networks import quicken_batch_norms
from tests.rigs.objects import ObjectServer
from tests.samples import job, planned, spec
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
    (model,) = resolve_models([ModelConfig.model_validate({"model": str(tmp_path / "out")})])
    model = probe_model(model)
    assert (model.categories, model.view.crop) == (CLASSES, (32, 32))
    decoded = [decode((images / name / "000.png").read_bytes(), max_pixels=10**6) for name in CLASSES]
    pixels = [apply_view(model.view, one.image) for one in decoded]
    network = load_network(model, device="cpu", setting=REFERENCE)
    answers = network.run_batch(pixels, [(48, 48)] * 3, [model])[model.alias]
    assert [int(np.argmax(answer)) for answer in answers] == [0, 1, 2]


def test_a_finished_training_returns_at_once_and_a_changed_job_is_refused(images: Path, tmp_path: Path) -> None:
    asked = train_job(images, tmp_path / "out")
    first = train(asked)
    assert train(asked).state.history == first.state.history
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


def test_an_earlier_result_is_a_start_with_its_head(images: Path, tmp_path: Path) -> None:
    first = train(train_job(images, tmp_path / "first"))
    slow = {"layers": "head", "epochs": 1, "rate": 1e-6}
    second = train(train_job(images, tmp_path / "second", model=str(tmp_path / "first"), stages=[slow]))
    assert second.best["metric"] == first.best["metric"]


def test_images_and_result_may_be_in_a_bucket(images: Path, as_job: ObjectServer) -> None:
    bucket = as_job.make_bucket()
    files = [path for path in images.rglob("*.png")]
    as_job.put(bucket, {f"photos/{path.parent.name}/{path.name}": path.read_bytes() for path in files})
    places = {name: {"uri": f"s3://{bucket}/{name}", "endpoint_url": as_job.endpoint} for name in ("photos", "out")}
    asked = train_job(images, places["out"], source=places["photos"], truth=places["photos"])
    report = train(asked, judged=True)
    assert report.best["metric"] > 0.8
    assert report.judgement.metrics["classification"].values["top-1"] == pytest.approx(report.best["metric"])
    assert train(asked).state.epoch == 1, "it is finished"
    model = {"model": f"s3://{bucket}/out", "endpoint_url": as_job.endpoint}
    found = probe_model(resolve_models([ModelConfig.model_validate(model)])[0])
    assert found.categories == CLASSES


def test_a_run_and_a_training_share_no_output(images: Path, tmp_path: Path) -> None:
    train(train_job(images, tmp_path / "out", stages=[{"layers": "head", "epochs": 1}]))
    store = LocalStore(str(tmp_path / "out"))
    with pytest.raises(OutputError, match="is the output of a training: give it as --model"):
        make_plan(store, job(images, tmp_path / "out"), [spec()], open_source(job(images).source))
    planned(tmp_path / "run", 2)
    with pytest.raises(OutputError, match="holds predictions of cvbatch run"):
        train(train_job(images, tmp_path / "run" / "out"))


def test_statistics_of_batch_norms_follow_within_tens_of_steps() -> None:
    module = construct_lite0(2)
    quicken_batch_norms(module)
    assert {layer.momentum for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)} == {0.1}
