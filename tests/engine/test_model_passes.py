"""Which models share a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from cvbatch.config.compute import ComputeConfig
from cvbatch.engine.memory import MIN_SHARES, min_store_bytes, models_bytes, needed_bytes
from cvbatch.engine.model_passes import (
    LossLimit,
    describe_passes,
    group_models,
    largest_pass,
    plan_container_passes,
    plan_gpu_passes,
    plan_resources_of_passes,
    split_model_pass,
)
from cvbatch.errors import UsageError
from cvbatch.inference.settings import REFERENCE
from cvbatch.models.spec import ModelSpec
from cvbatch.tuning.certificate import TuningResult
from tests.engine.test_memory import model
from tests.engines import CLUSTER

GB = 1_000_000_000
SMALL = replace(model("resnet18"), alias="small")
MIDDLE = replace(model("resnet50"), alias="middle")
LARGE = replace(model("vit_l_16"), alias="large")
SAME = replace(LARGE, alias="same")


def aliases(passes: Sequence[Sequence[ModelSpec]]) -> list[str]:
    return ["+".join(spec.alias for spec in models) for models in passes]


def test_models_share_a_device_where_they_fit() -> None:
    assert aliases(plan_gpu_passes((SMALL, LARGE, MIDDLE), ComputeConfig(), lambda: 80 * GB)) == ["small+large+middle"]
    assert aliases(plan_gpu_passes((SMALL, LARGE), ComputeConfig(), lambda: None)) == ["small+large"], (
        "nothing is known"
    )
    assert aliases(plan_container_passes((SMALL, LARGE), ComputeConfig(), None)) == ["small+large"]


def test_a_model_that_does_not_fit_beside_the_others_gets_a_pass() -> None:
    both = models_bytes((SMALL, MIDDLE), on_gpu=True)
    models = (SMALL, LARGE, MIDDLE, SAME)
    allowed = ComputeConfig(model_memory=max(both, models_bytes((LARGE,), on_gpu=True)))
    assert aliases(plan_gpu_passes(models, allowed, lambda: None)) == ["small+middle", "large+same"]


def test_the_order_is_that_of_the_job() -> None:
    passes = group_models((SMALL, MIDDLE, LARGE), lambda group: len(group) < 3)
    assert aliases(passes) == ["small", "middle+large"]
    assert describe_passes(passes) == "2 passes, as not all models fit into memory at once: small; middle+large"


def test_a_container_decides_on_cpus() -> None:
    limit = needed_bytes((LARGE,), MIN_SHARES, min_store_bytes((LARGE,)))
    passes = plan_container_passes((MIDDLE, LARGE), ComputeConfig(), limit)
    assert aliases(passes) == ["middle", "large"]
    assert largest_pass((MIDDLE, LARGE), ComputeConfig(), limit) == (LARGE,)
    assert largest_pass((MIDDLE, LARGE), ComputeConfig(), None) == (MIDDLE, LARGE)


def test_a_model_that_fits_no_device_is_refused() -> None:
    compute = ComputeConfig(model_memory=100_000_000)
    expected = r"large needs about .*, and compute\.model_memory allows 100 MB: give it more"
    with pytest.raises(UsageError, match=expected):
        plan_gpu_passes((LARGE,), compute, lambda: None)
    with pytest.raises(UsageError, match=expected):
        plan_container_passes((LARGE,), compute, None)


def test_a_gpu_that_is_too_small_is_named() -> None:
    with pytest.raises(UsageError, match=r"large needs about .*, and the GPU has room for 1\.0 GB"):
        plan_gpu_passes((LARGE, replace(model("vit_h_14"), alias="huge")), ComputeConfig(), lambda: 2 * GB)


def test_a_pass_is_split_by_its_networks() -> None:
    assert aliases(split_model_pass((SMALL, LARGE, SAME, MIDDLE))) == ["small+large+same", "middle"]
    assert aliases(split_model_pass((LARGE, SAME))) == ["large+same"]


def test_all_passes_work_on_the_same_units() -> None:
    result = TuningResult(REFERENCE, "")
    plans = plan_resources_of_passes(CLUSTER, ComputeConfig(), [(SMALL,), (LARGE,)], 100_000, result)
    assert len({plan.unit_rows for plan in plans}) == 1
    assert plans[0].passes == (("small",), ("large",))
    (alone,) = plan_resources_of_passes(CLUSTER, ComputeConfig(), [(SMALL, LARGE)], 100_000, result)
    assert alone.passes == ()


def test_a_part_of_a_wave_may_lose_its_share_of_units() -> None:
    assert LossLimit(2_500, 50_000).of_units(150) == 10
    assert LossLimit(2_500, 50_000).of_units(600) == 30
    assert LossLimit(2_500, 50_000).of_units(50_000) == 2_500
    assert LossLimit(600, 600).of_units(150) == 150, "all may be lost where images are the cause"
    assert LossLimit(1, 4).of_units(4) == 1
