"""Weights are transferred to machines that lack them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from cvbatch.engine.nodes import Cluster, ClusterNode
from cvbatch.engine.weight_transfer import TransferredWeights
from cvbatch.models.spec import ModelSpec
from cvbatch.stages.weight_files import WEIGHTS_IN_PLACE
from tests.samples import spec

CONTENT = b"weights" * 1_000
ALONE, ONE, TWO = (
    Cluster(
        tuple(ClusterNode(f"10.0.0.{number}", 4) for number in range(machines)), local=local, object_store_bytes=1 << 30
    )
    for machines, local in ((1, True), (1, False), (2, False))
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> ModelSpec:
    file = tmp_path / "own.pth"
    file.write_bytes(CONTENT)
    return replace(spec(), weights_path=str(file), weights_sha256=hashlib.sha256(CONTENT).hexdigest())


def kept(cache: Path) -> list[bytes]:
    return [path.read_bytes() for path in cache.rglob("*.pth")]


def test_a_single_machine_needs_no_transfer(model: ModelSpec) -> None:
    files = TransferredWeights.put_into_store([model], local=True)
    assert files.references == {}
    assert files.fetch_local([model]) == (model,)


def test_a_plan_from_another_machine_gets_the_paths_of_this_one(model: ModelSpec) -> None:
    options = {"weights": "w.bin"}
    planned = replace(model, weights_path="/gone/own.pth", folder="/gone", options={"weights": "./w.bin"})
    resolved = replace(model, folder="/here", options=options, files={"w.bin": "12ab"})
    assert TransferredWeights.put_into_store([resolved], local=True).localize_plan_models([planned]) == (resolved,)
    assert WEIGHTS_IN_PLACE.localize_plan_models([planned]) == (planned,)


@pytest.mark.usefixtures("attached")
def test_a_machine_with_the_file_uses_it(model: ModelSpec, cache: Path) -> None:
    assert TransferredWeights.put_into_store([model], local=False).fetch_local([model]) == (model,)
    assert kept(cache) == []


@pytest.mark.usefixtures("attached")
@pytest.mark.parametrize("existing", [None, b"others"], ids=["nothing", "another file"])
@pytest.mark.parametrize("cluster", [ONE, TWO], ids=["came late", "was there"])
def test_a_machine_without_the_file_fetches_it_once(
    model: ModelSpec, cache: Path, cluster: Cluster, existing: bytes | None
) -> None:
    files, path = TransferredWeights.put_into_store([model, model], local=cluster.local), Path(str(model.weights_path))
    assert len(files.references) == 1
    path.unlink() if existing is None else path.write_bytes(existing)
    (local_model,) = files.fetch_local([model])
    assert local_model == replace(model, weights_path=local_model.weights_path)
    assert kept(cache) == [CONTENT]
    assert Path(str(local_model.weights_path)).suffix == ".pth"
    Path(str(local_model.weights_path)).touch()
    unreachable = TransferredWeights(dict.fromkeys(files.references, "must not be asked"))
    assert unreachable.fetch_local([model]) == (local_model,)


@pytest.mark.usefixtures("attached")
def test_an_incomplete_copy_is_fetched_again(model: ModelSpec, cache: Path) -> None:
    files = TransferredWeights.put_into_store([model], local=False)
    Path(str(model.weights_path)).unlink()
    (local_model,) = files.fetch_local([model])
    Path(str(local_model.weights_path)).write_bytes(CONTENT[:10])
    assert files.fetch_local([model]) == (local_model,)
    assert kept(cache) == [CONTENT]


@pytest.mark.usefixtures("attached")
def test_models_without_a_local_file_are_not_transferred(model: ModelSpec) -> None:
    nothing = replace(model, weights_path=None, weights_sha256=None)
    remote = replace(model, weights_path="s3://box/own.pth")
    files = TransferredWeights.put_into_store([nothing, remote], local=False)
    assert files.references == {}
    assert files.fetch_local([nothing, remote]) == (nothing, remote)
