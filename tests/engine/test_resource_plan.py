"""Division of a cluster between the stages."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from cvbatch.config.compute import ComputeConfig
from cvbatch.engine import resource_plan
from cvbatch.engine.nodes import Cluster, ClusterNode
from cvbatch.engine.resource_plan import ResourcePlan, allocate_resources
from cvbatch.errors import UsageError
from cvbatch.images.preprocess import View
from cvbatch.inference.settings import REFERENCE
from cvbatch.models.spec import ModelSpec
from cvbatch.system.control_group import usable_cores
from cvbatch.tuning.certificate import TuningResult
from tests.samples import spec

MILLION = 1_000_000


def pools(
    cpus: float = 4, gpus: float = 0, nodes: int = 1, rows: int = MILLION, gflops: float | None = 4, **compute: Any
) -> ResourcePlan:
    members = [ClusterNode(f"10.0.0.{number}", cpus / nodes, gpus / nodes) for number in range(nodes)]
    cluster = Cluster(tuple(members), local=True, object_store_bytes=1 << 30)
    return allocate_resources(
        cluster, ComputeConfig(**compute), [spec(gflops=gflops)], rows, TuningResult(REFERENCE, "")
    )


@pytest.mark.parametrize("cpus", [1, 2, 4, 16, 64, 200])
@pytest.mark.parametrize("nodes", [1, 4])
def test_decoding_always_keeps_cpus(cpus: float, nodes: int) -> None:
    shared = pools(cpus=cpus * nodes, nodes=nodes)
    assert shared.num_actors >= nodes
    assert shared.actor_cpus >= 1
    assert shared.actor_gpus == 0
    if cpus > 1:
        assert shared.num_actors * shared.actor_cpus < cpus * nodes, "an actor that takes all starves the decoders"
        assert shared.num_actors * shared.actor_cpus <= cpus * nodes / 2 + 1
    assert shared.num_actors * shared.threads <= max(cpus * nodes, shared.num_actors)


def test_one_actor_for_each_gpu() -> None:
    shared = pools(cpus=32, gpus=4, nodes=2)
    assert (shared.device, shared.num_actors, shared.actor_gpus, shared.threads) == ("cuda", 4, 1.0, 1)
    assert pools(cpus=32, gpus=4, device="cpu").device == "cpu"


def test_units_that_the_object_store_cannot_hold_are_refused() -> None:
    large = replace(spec(), view=View(resize=(512, 512)))
    cluster = Cluster((ClusterNode("10.0.0.1", 64),), local=True, object_store_bytes=1 << 30)

    def shared(unit_rows: Any) -> ResourcePlan:
        compute = ComputeConfig(unit_rows=unit_rows)
        return allocate_resources(cluster, compute, [large], MILLION, TuningResult(REFERENCE, ""))

    assert 0 < shared(4).bytes_in_flight <= shared("auto").bytes_in_flight <= 1 << 30
    with pytest.raises(UsageError, match=r"the object store has 1024 MB; lower compute\.unit_rows"):
        shared(4096)


def test_a_missing_gpu_is_refused() -> None:
    with pytest.raises(UsageError, match="the cluster has no GPU; use auto or cpu"):
        pools(device="cuda")


def test_requested_values_are_used() -> None:
    shared = pools(cpus=16, unit_rows=7, num_actors=3, batch_size=5)
    assert (shared.unit_rows, shared.num_actors, shared.batch_size) == (7, 3, 5)
    assert shared.num_actors * shared.actor_cpus <= 16
    assert pools(cpus=2, num_actors=3).actor_cpus * 3 <= 1, "whole CPUs would leave decoding none"
    assert pools().batch_size is None


@pytest.mark.parametrize("gflops", [None, 0.3, 4, 130, 2000])
@pytest.mark.parametrize("rows", [0, 1, 50, MILLION])
@pytest.mark.parametrize("gpus", [0, 8])
def test_units_are_of_bounded_size(gflops: float | None, rows: int, gpus: float) -> None:
    shared = pools(cpus=64, gpus=gpus, rows=rows, gflops=gflops)
    assert resource_plan._MIN_UNIT <= shared.unit_rows <= resource_plan._MAX_UNIT
    assert shared.units_in_flight >= 2


def test_slow_models_and_short_runs_get_smaller_units() -> None:
    assert pools(gflops=130).unit_rows < pools(gflops=4).unit_rows
    assert pools(gflops=0.3, rows=100).unit_rows < pools(gflops=0.3).unit_rows


@pytest.mark.parametrize(
    ("decode", "predict", "device_decode", "rows"),
    [(200.0, 60.0, False, 256), (200.0, 8.0, False, 32), (10.0, 60.0, False, 64), (10.0, 60.0, True, 256)],
    ids=["four seconds of predicting", "a slow network", "large photos", "decoded where they are predicted"],
)
def test_measured_rates_size_the_units(decode: float, predict: float, device_decode: bool, rows: int) -> None:
    setting = replace(REFERENCE, device_decode=device_decode)
    tried = {"setting": asdict(setting), "rates": {"decode_per_core": decode, "predict": predict}}
    cluster = Cluster((ClusterNode("10.0.0.1", 8),), local=False, object_store_bytes=8 << 30)
    certificate = TuningResult(setting, "", (tried,))
    assert allocate_resources(cluster, ComputeConfig(), [spec()], MILLION, certificate).unit_rows == rows


def test_small_units_overlap_on_cpus() -> None:
    assert pools(gflops=130).units_at_once == 2
    assert pools(gflops=0.3).units_at_once == 1
    assert pools(gflops=0.3, unit_rows=1).units_at_once == 2


def test_boxes_and_masks_get_more_processes_with_fewer_threads() -> None:
    cluster = Cluster((ClusterNode("10.0.0.1", 32),), local=False, object_store_bytes=64 << 30)

    def shared(*models: ModelSpec, rows: int = MILLION, **asked: Any) -> ResourcePlan:
        return allocate_resources(cluster, ComputeConfig(**asked), models, rows, TuningResult(REFERENCE, ""))

    labels, boxes = replace(spec(), kind="torchvision"), replace(spec("boxes", "detection"), kind="torchvision")
    assert (shared(labels).num_actors, shared(labels).threads) == (4, 8)
    mixed = shared(labels, boxes)
    assert (mixed.num_actors, mixed.threads) == (16, 2)
    assert mixed.num_actors * mixed.actor_cpus <= 16, "half of the CPUs stay with decoding"
    assert shared(boxes, rows=900).num_actors == 4, "loading the models more often would not pay"
    assert shared(spec("boxes", "detection")).num_actors == 4, "somebody else's model answers in its own way"
    assert shared(boxes, num_actors=2).num_actors == 2


def test_processes_of_a_machine_share_its_cores() -> None:
    cores = usable_cores()
    assert pools(cpus=8 * cores, num_actors=1).threads == min(8, cores)
    assert pools(cpus=8 * cores, num_actors=2).threads == min(8, max(1, cores // 2))


def test_a_small_container_gets_fewer_processes_and_smaller_units() -> None:
    def within(limit: int | None, **asked: Any) -> ResourcePlan:
        cluster = Cluster((ClusterNode("10.0.0.1", 32),), True, object_store_bytes=80_000_000, memory_limit=limit)
        return allocate_resources(cluster, ComputeConfig(**asked), [spec()], MILLION, TuningResult(REFERENCE, ""))

    free, small = within(None), within(1_800_000_000)
    assert within(64_000_000_000).num_actors == free.num_actors
    assert small.num_actors == 1
    assert small.decode_tasks < free.decode_tasks
    assert small.max_unit_bytes * small.decode_tasks <= 80_000_000 < free.max_unit_bytes
    assert within(1_800_000_000, num_actors=2).num_actors == 2, "what is asked for is done, or was refused before"
    assert within(1_450_000_000, batch_size=3).batch_size in (1, 2, 3)
    assert free.batch_size is None
