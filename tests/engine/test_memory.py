"""Memory that a run needs, compared with a container's limit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cvbatch.config.compute import ComputeConfig
from cvbatch.engine import memory
from cvbatch.engine.memory import (
    MIN_SHARES,
    MemoryShares,
    check_memory_suffices,
    fitting_store_bytes,
    is_memory_tight,
    min_store_bytes,
    needed_bytes,
    object_store_bytes,
    reduced_batch_size,
    shares_that_fit,
)
from cvbatch.errors import UsageError
from cvbatch.images.preprocess import View
from cvbatch.models.spec import ModelSpec
from tests.rigs.containers import Machine
from tests.samples import spec

GB, MB = 1_000_000_000, 1_000_000
USUAL = View(resize=256, crop=(224, 224))


def model(name: str = "resnet50", task: Any = "classification", **fields: Any) -> ModelSpec:
    return replace(spec(task=task), kind="torchvision", name=name, view=USUAL, weights_path=None, **fields)


LITE0 = replace(model("efficientnet_lite0"), kind="embedded")
FASTER = replace(model("fasterrcnn_resnet50_fpn", "detection"), gflops=134.4, view=View())


@pytest.mark.parametrize(
    ("models", "shares", "measured"),
    [
        ([LITE0], MIN_SHARES, 1.42),
        ([model()], MemoryShares(1, 2, 4, 1), 1.43),
        ([FASTER], MemoryShares(1, 2, 1, 1), 3.1),
        ([model("vit_l_16")], MemoryShares(1, 2, 4, 1), 2.5),
    ],
    ids=["Lite0", "ResNet-50", "Faster R-CNN", "ViT-L"],
)
def test_the_need_is_close_to_the_measured_memory(
    models: list[ModelSpec], shares: MemoryShares, measured: float
) -> None:
    """Random weights are not read from a file, so the largest network counts once less."""
    random = sum(memory._total_weight_bytes(models)[-1:]) if models != [LITE0] else 0
    assert needed_bytes(models, shares, 80 * MB) - random == pytest.approx(measured * GB, rel=0.15)


def test_own_weights_count_by_their_file_size(tmp_path: Path) -> None:
    (file := tmp_path / "own.pt").write_bytes(b"")
    own = replace(model(), weights_path=str(file))
    bytes_without_weights = needed_bytes([own], MIN_SHARES, 0)
    file.write_bytes(bytes(5 * MB))
    assert needed_bytes([own], MIN_SHARES, 0) - bytes_without_weights == 10 * MB


def test_a_network_shared_by_two_models_counts_once() -> None:
    assert needed_bytes([model(), replace(model(), alias="again")], MIN_SHARES, 0) == needed_bytes(
        [model()], MIN_SHARES, 0
    )


@pytest.mark.parametrize(("limit", "said"), [(0.6, "0.6"), (1.0, "1.0"), (1.3, "1.3")])
def test_a_job_that_does_not_fit_is_refused_with_limit_and_need(limit: float, said: str) -> None:
    with pytest.raises(UsageError, match=f"the container has {said} GB, this job needs about 1.[45] GB"):
        check_memory_suffices([LITE0], ComputeConfig(), int(limit * GB), gpu=False)


@pytest.mark.parametrize("limit", [None, 1_500 * MB, 64 * GB])
def test_a_job_that_fits_is_accepted(limit: int | None) -> None:
    check_memory_suffices([LITE0], ComputeConfig(), limit, gpu=False)


def test_too_many_processes_are_refused_with_advice() -> None:
    check_memory_suffices([LITE0], ComputeConfig(num_actors=1), 2 * GB, gpu=False)
    with pytest.raises(UsageError, match=r"needs about 3\.\d GB.*leave compute\.num_actors"):
        check_memory_suffices([LITE0], ComputeConfig(num_actors=5), 2 * GB, gpu=False)


def test_a_job_on_a_gpu_is_not_refused() -> None:
    check_memory_suffices([LITE0], ComputeConfig(), GB, gpu=True)
    with pytest.raises(UsageError):
        check_memory_suffices([LITE0], ComputeConfig(device="cpu"), GB, gpu=True)


def test_ray_sizes_the_store_where_nothing_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitting_store_bytes([LITE0], None, None) is None
    container = Machine(tmp_path)
    container.second("/", memory_max=str(8 * GB))
    assert object_store_bytes([LITE0], ComputeConfig(device="cpu"), tmp_path) == fitting_store_bytes(
        [LITE0], 8 * GB, None
    )
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    assert object_store_bytes([LITE0], ComputeConfig(), tmp_path) is None, "a cluster has its own store"


def test_the_store_leaves_room_for_the_processes() -> None:
    for limit in (1_500 * MB, 2 * GB, 4 * GB, 16 * GB):
        store = fitting_store_bytes([LITE0], limit, None)
        assert store is not None
        assert 80 * MB <= store <= 0.3 * limit
        assert needed_bytes([LITE0], MIN_SHARES, store) <= limit
    assert fitting_store_bytes([FASTER], 8 * GB, None) >= min_store_bytes([FASTER]) > 200 * MB  # type: ignore[operator]  # not None


def test_the_store_fits_the_address_space_limit() -> None:
    assert fitting_store_bytes([LITE0], None, 8_192_000_000) == pytest.approx(846 * MB, rel=0.01)
    assert fitting_store_bytes([LITE0], None, 6_500_000_000) == 80 * MB


def test_processes_and_batches_shrink_until_they_fit() -> None:
    wanted = MemoryShares(4, 8, 16, 8)
    assert shares_that_fit([LITE0], wanted, 80 * MB, None) == wanted
    assert shares_that_fit([LITE0], wanted, 80 * MB, 64 * GB) == wanted
    previous = wanted
    for limit in (4 * GB, 3 * GB, 2 * GB, 1_500 * MB):
        shares = shares_that_fit([LITE0], wanted, 80 * MB, limit)
        assert needed_bytes([LITE0], shares, 80 * MB) <= limit
        assert all(share <= previous_share for share, previous_share in zip(shares, previous, strict=True))
        assert min(shares) >= 1
        previous = shares
    assert shares_that_fit([LITE0], wanted, 80 * MB, GB) == MIN_SHARES


def test_a_reduced_batch_size_is_one_if_a_model_takes_single_images() -> None:
    assert reduced_batch_size([LITE0], 6) == 6
    assert reduced_batch_size([LITE0, FASTER], 6) == 1


def test_memory_is_tight_below_twice_the_need() -> None:
    assert is_memory_tight([LITE0], 2 * GB)
    assert not is_memory_tight([LITE0], 4 * GB)
    assert not is_memory_tight([LITE0], None)
