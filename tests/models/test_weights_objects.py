"""Own weights and categories in a bucket of a real server."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cvbatch.config.job import ModelConfig
from cvbatch.errors import CorruptionError, DeniedError, ModelError
from cvbatch.inference import loading
from cvbatch.inference.torch.torchvision_models import construct_builder, load_torchvision
from cvbatch.models import resolve, weights
from cvbatch.models.spec import ModelSpec
from tests.rigs.faults import FaultProxy
from tests.rigs.objects import ObjectServer


@pytest.fixture
def bucket(as_job: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "driver"))
    name = as_job.make_bucket("images")
    as_job.put(name, {"w.pth": state(0), "names.txt": "cat\ndög\n".encode()})
    return name


def state(seed: int) -> bytes:
    torch.manual_seed(seed)
    data = io.BytesIO()
    torch.save(construct_builder("squeezenet1_1", num_classes=2).state_dict(), data)
    return data.getvalue()


def config(bucket: str, endpoint: str, **more: Any) -> ModelConfig:
    files = {"checkpoint": f"s3://{bucket}/w.pth", "categories": f"s3://{bucket}/names.txt"}
    return ModelConfig.model_validate({"model": "squeezenet1_1", "endpoint_url": endpoint, **files, **more})


def test_weights_and_categories_come_from_a_bucket(
    bucket: str, object_server: ObjectServer, faults: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults.doing() as requests:
        (spec,) = resolve.resolve_models([config(bucket, faults.endpoint)])
    assert [(each.method, each.path.rpartition("/")[2]) for each in requests] == [
        ("HEAD", "w.pth"),
        ("GET", "w.pth"),
        ("GET", "names.txt"),
    ]
    assert spec.categories == ("cat", "dög")
    assert spec.weights_path == f"s3://{bucket}/w.pth", "it names them on every machine"
    spec = loading.probe_model(ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))))
    expected = torch.load(io.BytesIO(state(0)), weights_only=True)
    for machine in ("driver", "worker"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        found = load_torchvision(spec).state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "late"))
    object_server.put(bucket, {"w.pth": state(1)})
    with pytest.raises(CorruptionError, match="it has changed since the run started"):
        weights.fetch_for_spec(spec)


def test_what_is_wrong_with_them_is_said_in_one_line(bucket: str, as_job: ObjectServer) -> None:
    endpoint = as_job.endpoint
    for more, words in (
        ({"sha256": "12" * 32}, "checkpoint: s3://.*w.pth: expected sha256 1212"),
        ({"checkpoint": f"s3://{bucket}/none.pth"}, "checkpoint: s3://.*none.pth: there is no such object"),
        ({"categories": f"s3://{bucket}/none.txt"}, "categories: cannot read s3://"),
        ({"checkpoint": "https://example.org/w.pth"}, "expected a file on this machine or in a bucket"),
    ):
        with pytest.raises(ModelError, match=words):
            resolve.resolve_models([config(bucket, endpoint, **more)])
    with pytest.raises(DeniedError):
        resolve.resolve_models([config(bucket, endpoint, anonymous=True)])
    with pytest.raises(ValueError, match="without credentials"):
        config(bucket, endpoint, checkpoint=f"s3://me:secret@{bucket}/w.pth")
