"""How many actors and threads, and how large a unit: arithmetic over the cluster and the models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cvbatch.config.compute import ComputeConfig, StageConfig
from cvbatch.engine.memory import (
    DEFAULT_BATCH_SIZE,
    MemoryShares,
    reduced_batch_size,
    shares_that_fit,
    view_pixel_bytes,
)
from cvbatch.engine.nodes import Cluster, ClusterNode, node_affinity
from cvbatch.errors import UsageError
from cvbatch.inference.settings import InferenceSettings
from cvbatch.models.backends import is_setting_applicable
from cvbatch.models.spec import ModelSpec
from cvbatch.stages.decode import DECODE_THREADS, MAX_UNIT_PIXEL_BYTES
from cvbatch.stages.predict import CONCURRENT_UNITS, PredictOptions
from cvbatch.storage.location import Location
from cvbatch.system.control_group import usable_cores
from cvbatch.tasks import TASKS
from cvbatch.tuning.certificate import TuningResult
from cvbatch.tuning.request import TuningRequest

_UNIT_SECONDS: Final = 4.0
"""That a unit takes in the slower of its stages: what a crash costs, and the first commit waits for."""
_UNITS_PER_ACTOR: Final = 4
_MIN_UNIT, _MAX_UNIT = 4, 512
_CPUS_PER_ACTOR: Final = 8
_CPUS_IF_PYTHON: Final = 2
"""Per actor, where boxes or masks are made of what a network gives: much of that is Python, of which one thread runs at
a time. On two cores two processes did 1.22 times as many images as one with two threads with SSDlite320, and 1.15 times
as many with LR-ASPP."""
_WORTH_PROCESSES: Final = 1_000
"""Rows that make up for loading the models more often."""
_WORTH_AN_ACTOR: Final = 0.25
"""A node with a smaller share of the CPUs that the largest has holds no models."""
_GFLOPS_PER_THREAD: Final = 30.0
"""What one core does of a network's nominal work in a second; rough, it only sizes units."""
_GFLOPS_PER_GPU: Final = 8000.0
_UNKNOWN_GFLOPS: Final = 2.0
_CPU_FRACTIONS: Final = 10_000
"""Of a CPU, as Ray counts them."""
_STORE_SHARE: Final = 0.5
"""Of the object store, for pixels that are decoded or queued."""
READY_UNITS_PER_ACTIVE: Final = 1.0
"""Decoded units that may lie ready for each one that is with an actor; decoding waits once there are more."""
_QUEUED_SECONDS: Final = 0.25
"""Work to keep queued at an actor, because the scheduler ticks at 100 ms."""
_SMALL_UNIT: Final = 8
"""Images for each thread. In smaller units the last images, of unequal size, leave threads without work for a good part
of the time, unless the next unit has begun: Faster R-CNN with units of four did 0.28 images/s, two at once 0.30."""


@dataclass(frozen=True, slots=True)
class ResourcePlan:
    """The stages' shares of the cluster."""

    device: str
    setting: InferenceSettings
    num_actors: int
    actor_cpus: float
    actor_gpus: float
    threads: int
    unit_rows: int
    units_in_flight: int
    units_at_once: int
    """Units that an actor works on; its threads take images of each."""
    decode_tasks: int
    batch_size: int | None
    bytes_in_flight: int
    """Pixels that may be decoded or queued at once."""
    decode_where: Mapping[str, Any] = field(default_factory=dict)
    """What Ray is told of the nodes that may decode."""
    max_unit_bytes: int = MAX_UNIT_PIXEL_BYTES
    """Pixels that a unit may hold; what is beyond travels encoded."""
    predict_where: Mapping[str, Any] = field(default_factory=dict)
    write_where: Mapping[str, Any] = field(default_factory=dict)


def uses_gpu(cluster: Cluster, compute: ComputeConfig) -> bool:
    """Whether the models run on GPUs.

    Raises:
        UsageError: If a GPU is asked for and the cluster has none.
    """
    if compute.device == "cuda" and not cluster.gpus:
        raise UsageError("compute.device: cuda was asked for, but the cluster has no GPU; use auto or cpu")
    return cluster.gpus > 0 and compute.device != "cpu"


def allocate_resources(
    cluster: Cluster,
    compute: ComputeConfig,
    models: Sequence[ModelSpec],
    rows: int,
    certificate: TuningResult,
) -> ResourcePlan:
    """Share the cluster between the stages.

    Args:
        cluster: What there is.
        compute: What was asked for.
        models: The models of the job.
        rows: Images to go; a short run is cut finer, so that all stages have work.
        certificate: Of the run's setting; its rates, if they were measured, size the units.

    Raises:
        UsageError: If a GPU is asked for and the cluster has none, no node may do a stage, or the object store is too
            small.
    """
    on_gpu = uses_gpu(cluster, compute)
    decoding = _nodes_allowed(cluster, compute.decode, "decode")
    predicting = _nodes_allowed(cluster, compute.predict, "predict")
    each = _CPUS_IF_PYTHON if rows >= _WORTH_PROCESSES and any(map(_works_in_python, models)) else _CPUS_PER_ACTOR
    actors, cpus, threads = _plan_gpu_actors(predicting) if on_gpu else _plan_cpu_actors(predicting, each)
    if compute.num_actors != "auto":
        threads = max(1, threads * actors // compute.num_actors)
        cpus = cpus if on_gpu else _whole_cpus(cpus * actors / compute.num_actors)
        actors = compute.num_actors
    if cluster.local:
        threads = min(threads, max(1, usable_cores() // actors))
    shared = sum(node.cpus for node in decoding if node in predicting)
    own = sum(node.cpus for node in decoding) - shared
    decode_tasks = max(1, int(own + max(0.0, shared - actors * cpus)) // DECODE_THREADS)
    batch_size = None if compute.batch_size == "auto" else compute.batch_size
    if cluster.memory_limit is not None and not on_gpu:
        usual = batch_size or _default_batch_size(certificate.setting)
        wanted = MemoryShares(actors, threads, usual, decode_tasks)
        fits = shares_that_fit(models, wanted, cluster.object_store_bytes, cluster.memory_limit)
        actors = fits.actors if compute.num_actors == "auto" else actors
        threads, decode_tasks = fits.lanes, fits.decoders
        batch_size = batch_size if fits.batch_size == usual else reduced_batch_size(models, fits.batch_size)
    work = sum(model.gflops or _UNKNOWN_GFLOPS for model in models)
    rate = (_GFLOPS_PER_GPU if on_gpu else _GFLOPS_PER_THREAD * threads) / work
    slower = rate
    if (measured := certificate.measured_rates()) is not None:
        slower = rate = measured["predict"]
        if not certificate.setting.device_decode:  # large photos: one task decodes fewer than an actor predicts
            slower = min(rate, DECODE_THREADS * measured["decode_per_core"])
    by_time, by_share = slower * _UNIT_SECONDS, rows / (_UNITS_PER_ACTOR * actors)
    unit_rows = _power_of_two(min(by_time, by_share)) if compute.unit_rows == "auto" else compute.unit_rows
    device = "cuda" if on_gpu else "cpu"
    in_flight = max(2, CONCURRENT_UNITS[device], math.ceil(_QUEUED_SECONDS * rate / unit_rows) + 1)
    # a row is what the views make of it, and no unit holds more pixels than its budget
    row_bytes = sum(map(view_pixel_bytes, {model.view for model in models}))
    if certificate.setting.device_decode and certificate.mean_bytes:
        row_bytes = certificate.mean_bytes  # files travel as they are
    queued = int((1 + READY_UNITS_PER_ACTIVE) * in_flight * actors) + decode_tasks
    if compute.unit_rows == "auto":
        unit_rows = _power_of_two(min(unit_rows, cluster.object_store_bytes * _STORE_SHARE / (row_bytes * queued)))
    overlaps = not on_gpu and unit_rows < _SMALL_UNIT * threads
    bytes_in_flight = int(queued * min(MAX_UNIT_PIXEL_BYTES, row_bytes * unit_rows))
    if compute.unit_rows != "auto" and bytes_in_flight > cluster.object_store_bytes:
        raise UsageError(
            f"{queued} units of {unit_rows} rows may hold {bytes_in_flight >> 20} MB of pixels at once, and the object "
            f"store has {cluster.object_store_bytes >> 20} MB; lower compute.unit_rows, or give Ray more memory"
        )
    return ResourcePlan(
        device=device,
        setting=certificate.setting,
        num_actors=actors,
        actor_cpus=cpus,
        actor_gpus=1.0 if on_gpu else 0.0,
        threads=threads,
        unit_rows=unit_rows,
        units_in_flight=in_flight,
        units_at_once=2 if overlaps else CONCURRENT_UNITS[device],
        decode_tasks=decode_tasks,
        bytes_in_flight=bytes_in_flight,
        decode_where=_stage_placement(compute.decode),
        predict_where=_stage_placement(compute.predict),
        write_where={"resources": tied} if (tied := node_affinity(compute.decode)) else {},
        batch_size=batch_size,
        max_unit_bytes=_unit_pixel_budget(cluster, queued),
    )


def _nodes_allowed(cluster: Cluster, stage: StageConfig, name: str) -> list[ClusterNode]:
    """The nodes of a stage; it must have some."""
    found = cluster.nodes_of(stage)
    if not found:
        asked = {**stage.resources, **stage.label_selector()}
        raise UsageError(f"compute.{name}: no node of the cluster has {asked or 'a CPU'}; it has {len(cluster.nodes)}")
    return found


def _stage_placement(stage: StageConfig) -> dict[str, Any]:
    asked = {"resources": dict(stage.resources), "label_selector": stage.label_selector()}
    return {name: value for name, value in asked.items() if value}


def _plan_gpu_actors(nodes: Sequence[ClusterNode]) -> tuple[int, float, int]:
    """One process for each GPU; it takes a CPU where every such node has enough of them."""
    with_gpu = [node for node in nodes if node.gpus]
    enough = all(node.cpus > node.gpus for node in with_gpu)
    return max(1, int(sum(node.gpus for node in with_gpu))), 1.0 if enough else 0.0, 1


def _works_in_python(model: ModelSpec) -> bool:
    """Whether much of what the threads of an actor do is Python: they make answers side by side, image by image."""
    return is_setting_applicable("lanes", [model]) and TASKS[model.task].locates_objects


def _plan_cpu_actors(nodes: Sequence[ClusterNode], most: int) -> tuple[int, float, int]:
    """Equal processes of at most so many CPUs each, as many as fit each node; what is much smaller only decodes.

    Half of the CPUs stay with decoding; the threads use all, the system shares them out.
    """
    largest = max(node.cpus for node in nodes)
    worth_it = [node.cpus for node in nodes if node.cpus >= _WORTH_AN_ACTOR * largest]
    smallest = min(worth_it)
    each = smallest / max(1, math.ceil(smallest / most))
    actors = max(1, sum(int(cpus / each) for cpus in worth_it))
    return actors, max(1.0, sum(worth_it) / 2 // actors), max(1, int(each))


def _default_batch_size(setting: InferenceSettings) -> int:
    return max(1, round(DEFAULT_BATCH_SIZE * setting.batch_factor * (1 if setting.precision == "fp32" else 2)))


def _unit_pixel_budget(cluster: Cluster, queued: int) -> int:
    """Where memory is limited so many units must fit the object store, however large their images are."""
    if cluster.memory_limit is None:
        return MAX_UNIT_PIXEL_BYTES
    return min(MAX_UNIT_PIXEL_BYTES, max(1, cluster.object_store_bytes // queued))


def _whole_cpus(cpus: float) -> float:
    """Whole CPUs; a part of one where there are so few that whole ones would leave decoding none."""
    return math.floor(cpus) if cpus >= 1 else math.floor(cpus * _CPU_FRACTIONS) / _CPU_FRACTIONS


def _power_of_two(rows: float) -> int:
    return int(min(_MAX_UNIT, max(_MIN_UNIT, 2 ** round(math.log2(max(1.0, rows))))))


def make_predict_options(output: Location, asked: TuningRequest, pools: ResourcePlan) -> PredictOptions:
    """What the actors of these shares of the cluster need."""
    return PredictOptions(
        output=output,
        decode=replace(asked.decode.with_settings(pools.setting), max_unit_bytes=pools.max_unit_bytes),
        device=pools.device,
        setting=pools.setting,
        batch_size=pools.batch_size,
        threads=pools.threads,
        stalled_after=asked.compute.stalled_after,
        files=asked.files,
    )
