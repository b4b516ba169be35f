"""Trained models as ONNX files: the same images, the same classes, the same answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
import yaml

from cvbatch.cli.parser import main
from cvbatch.config.job import ModelConfig
from cvbatch.config.train_job import TrainJob
from cvbatch.errors import OutputError, UsageError
from cvbatch.inference.loading import probe_model
from cvbatch.models.resolve import resolve_models
from cvbatch.output.store import open_store
from cvbatch.training.onnx_export import OnnxExport, export_to_onnx, refuse_difference
from cvbatch.training.plan import make_training_plan
from cvbatch.training.status import open_training
from tests.training.samples import CLASSES, patterns, train, train_job


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    folder = tmp_path_factory.mktemp("training")
    job = train_job(patterns(folder / "patterns", 6), folder / "out")
    train(job)
    return job


def test_a_finished_training_is_exported_and_answers_the_same(
    job: TrainJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json", exclude_defaults=True)))
    assert main(["train", str(tmp_path / "job.yaml"), "--export", "onnx", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)["onnx"]
    plan = open_training(job.output.uri)[1]
    assert answer["images"] == answer["same_labels"] == plan.validated > 0
    assert 0 < answer["difference"] < 1e-4
    session = onnxruntime.InferenceSession(answer["path"])
    assert session.get_inputs()[0].shape == ["batch", 3, 32, 32]
    (graph,) = resolve_models((ModelConfig.model_validate({"model": f"onnx:{answer['path']}"}),))
    graph = probe_model(graph)
    (trained,) = resolve_models((ModelConfig.model_validate({"model": job.output.uri}),))
    assert (graph.categories, graph.view, graph.licence) == (CLASSES, trained.view, trained.licence)


@pytest.mark.parametrize(
    ("images", "difference", "message"),
    [(5, 0.002, "differ by at most 0.001 .*, got 0.002 on 5 validation images"), (0, 0.0, "none can be read any more")],
)
def test_answers_that_differ_are_refused(images: int, difference: float, message: str) -> None:
    export = OnnxExport(path="model.onnx", images=images, difference=difference, same_labels=images, bytes=1)
    with pytest.raises(UsageError, match=message):
        refuse_difference("efficientnet_lite0", export)
    refuse_difference("efficientnet_lite0", replace(export, images=5, difference=0.0009))


def test_an_unfinished_training_is_refused(tmp_path: Path) -> None:
    job = train_job(patterns(tmp_path / "patterns", 2), tmp_path / "out")
    make_training_plan(open_store(job.output.location), job, lambda phrase: None)
    with pytest.raises(OutputError, match="expected a finished training to export"):
        export_to_onnx(str(tmp_path / "out"))
