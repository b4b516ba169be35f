"""Weights reach machines that lack them."""

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


def test_one_machine_has_what_the_driver_has(model: ModelSpec) -> None:
    files = TransferredWeights.put_into_store([model], local=True)
    assert files.references == {}
    assert files.fetch_local([model]) == (model,)


def test_the_plan_may_have_been_made_where_files_lie_elsewhere(model: ModelSpec) -> None:
    options = {"weights": "w.bin"}
    planned = replace(model, weights_path="/gone/own.pth", folder="/gone", options={"weights": "./w.bin"})
    here = replace(model, folder="/here", options=options, files={"w.bin": "12ab"})
    assert TransferredWeights.put_into_store([here], local=True).localize_plan_models([planned]) == (here,)
    assert WEIGHTS_IN_PLACE.localize_plan_models([planned]) == (planned,)


@pytest.mark.usefixtures("attached")
def test_a_machine_that_has_the_file_takes_it(model: ModelSpec, cache: Path) -> None:
    assert TransferredWeights.put_into_store([model], local=False).fetch_local([model]) == (model,)
    assert kept(cache) == []


@pytest.mark.usefixtures("attached")
@pytest.mark.parametrize("there", [None, b"others"], ids=["nothing", "another file"])
@pytest.mark.parametrize("cluster", [ONE, TWO], ids=["came late", "was there"])
def test_a_machine_that_lacks_the_file_gets_it_once(
    model: ModelSpec, cache: Path, cluster: Cluster, there: bytes | None
) -> None:
    files, path = TransferredWeights.put_into_store([model, model], local=cluster.local), Path(str(model.weights_path))
    assert len(files.references) == 1
    path.unlink() if there is None else path.write_bytes(there)
    (here,) = files.fetch_local([model])
    assert here == replace(model, weights_path=here.weights_path)
    assert kept(cache) == [CONTENT]
    assert Path(str(here.weights_path)).suffix == ".pth"
    Path(str(here.weights_path)).touch()
    gone = TransferredWeights(dict.fromkeys(files.references, "must not be asked"))
    assert gone.fetch_local([model]) == (here,)


@pytest.mark.usefixtures("attached")
def test_a_copy_that_was_broken_off_is_made_again(model: ModelSpec, cache: Path) -> None:
    files = TransferredWeights.put_into_store([model], local=False)
    Path(str(model.weights_path)).unlink()
    (here,) = files.fetch_local([model])
    Path(str(here.weights_path)).write_bytes(CONTENT[:10])
    assert files.fetch_local([model]) == (here,)
    assert kept(cache) == [CONTENT]


@pytest.mark.usefixtures("attached")
def test_what_has_no_file_on_a_disk_does_not_travel(model: ModelSpec) -> None:
    nothing = replace(model, weights_path=None, weights_sha256=None)
    remote = replace(model, weights_path="s3://box/own.pth")
    files = TransferredWeights.put_into_store([nothing, remote], local=False)
    assert files.references == {}
    assert files.fetch_local([nothing, remote]) == (nothing, remote)
