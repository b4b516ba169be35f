"""Graphs in a bucket of a real server, with what belongs to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from cvbatch.config.job import ModelConfig
from cvbatch.errors import CorruptionError, ModelError
from cvbatch.models import weights
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import predict
from tests.rigs.graphs import write_constant_graph
from tests.rigs.objects import ObjectServer

YAML = b"task: classification\npreprocess: unit\ncategories: [a, b, c]\n"


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_constant_graph(tmp_path / "own.onnx", {"logits": np.array([[0, 9, 0]], np.float32)})


def resolve(server: ObjectServer, bucket: str, **options: Any) -> ModelSpec:
    config = {"model": f"onnx:s3://{bucket}/models/own.onnx", "endpoint_url": server.endpoint, **options}
    (spec,) = resolve_models([ModelConfig.model_validate(config)])
    return spec


@pytest.fixture
def bucket(as_job: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "driver"))
    return as_job.make_bucket("images")


def test_a_graph_and_its_yaml_file_come_from_a_bucket(
    bucket: str, object_server: ObjectServer, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"models/own\.onnx: there is no such object"):
        resolve(object_server, bucket)
    object_server.put(bucket, {"models/own.onnx": graph.read_bytes()})
    with pytest.raises(ModelError, match="does not say how its images are prepared"):
        resolve(object_server, bucket, categories=["a", "b", "c"])
    object_server.put(bucket, {"models/own.yaml": YAML})
    spec = resolve(object_server, bucket)
    assert spec.weights_path == f"s3://{bucket}/models/own.onnx", "it is named on every machine"
    assert spec.weights_sha256 == weights.file_sha256(graph)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "worker"))
    assert predict([spec], [Image.new("RGB", (9, 9))])["classification_label"] == ["b"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "later"))
    object_server.put(bucket, {"models/own.onnx": graph.read_bytes() + b"\x12\x00"})
    with pytest.raises(CorruptionError, match="it has changed since the run started"):
        weights.fetch_for_spec(spec)


def test_weights_in_an_object_of_their_own(bucket: str, object_server: ObjectServer, graph: Path) -> None:
    split = graph.with_name("split.onnx")
    onnx.save(onnx.load(str(graph)), str(split), save_as_external_data=True, location="w.data", size_threshold=0)
    object_server.put(bucket, {"models/own.onnx": split.read_bytes(), "models/own.yaml": YAML})
    with pytest.raises(ModelError, match=r"weights are in a file of their own, w\.data, and there is none in s3://"):
        resolve(object_server, bucket)
    object_server.put(bucket, {"models/w.data": graph.with_name("w.data").read_bytes()})
    spec = resolve(object_server, bucket)
    assert predict([spec], [Image.new("RGB", (9, 9))])["classification_label"] == ["b"]


def test_weights_that_are_too_large_for_one_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of more than 2 GB; here the limit is lower. The whole travels as an archive, and is unpacked where it runs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("cvbatch.models.onnx.files._MOST_BYTES", 100)
    split = write_constant_graph(tmp_path / "split.onnx", {"logits": np.eye(300, dtype=np.float32)[1:2]})
    onnx.save(onnx.load(str(split)), str(split), save_as_external_data=True, location="w.data", size_threshold=1000)
    options = {
        "categories": [f"class {label}" for label in range(300)],
        "options": {"preprocess": "unit"},
        "task": "classification",
    }
    (spec,) = resolve_models([ModelConfig.model_validate({"model": f"onnx:{split}", **options})])
    assert Path(str(spec.weights_path)).suffix == ".tar"
    for file in (split, tmp_path / "w.data"):
        file.unlink()
    assert predict([spec], [Image.new("RGB", (9, 9))])["classification_label"] == ["class 1"]
