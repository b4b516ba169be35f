"""Numbers of actors and threads and the size of units, computed from the cluster and the models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cvbatch.config.compute import ComputeConfig, StageConfig
from cvbatch.engine.memory import (
    ASSUMED_BATCH_SIZE,
    MemoryShares,
    expected_tiles,
    reduced_batch_size,
    row_pixel_bytes,
    shares_that_fit,
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
"""Target seconds of a unit in its slower stage: a crash costs as much, and the first commit waits as long."""
_UNITS_PER_ACTOR: Final = 4
_MIN_UNIT, _MAX_UNIT = 4, 512
_CPUS_PER_ACTOR: Final = 8
_CPUS_IF_PYTHON: Final = 2
"""CPUs per actor for models of boxes or masks: much of their postprocessing is Python, where one thread runs at a time.
On two cores two processes are 1.22 times as fast as one with two threads for SSDlite320, and 1.15 times for LR-ASPP."""
_WORTH_PROCESSES: Final = 1_000
"""Rows from which more processes pay for loading the models more often."""
_WORTH_AN_ACTOR: Final = 0.25
"""A node gets actors only if it has at least this share of the largest node's CPUs."""
_GFLOPS_PER_THREAD: Final = 30.0
"""Nominal GFLOPs that one core computes per second; a rough value, used only to size units."""
_GFLOPS_PER_GPU: Final = 8000.0
_UNKNOWN_GFLOPS: Final = 2.0
_CPU_FRACTIONS: Final = 10_000
"""Ray counts CPUs in fractions of this size."""
_STORE_SHARE: Final = 0.5
"""Share of the object store for pixels that are being decoded or queued."""
READY_UNITS_PER_ACTIVE: Final = 1.0
"""Maximum decoded units that wait per unit that is with an actor; decoding pauses above that."""
_QUEUED_SECONDS: Final = 0.25
"""Seconds of work to keep queued at an actor, because Ray's scheduler ticks every 100 ms."""
_SMALL_UNIT: Final = 8
"""Images per thread below which an actor works on two units at once. In small units threads idle while the last images
are processed: Faster R-CNN with units of four does 0.28 images/s, and 0.30 with two units at once."""


@dataclass(frozen=True, slots=True)
class ResourcePlan:
    """Resources of each stage, and the sizes of units and batches."""

    device: str
    setting: InferenceSettings
    num_actors: int
    actor_cpus: float
    actor_gpus: float
    threads: int
    unit_rows: int
    units_in_flight: int
    units_at_once: int
    """Units that an actor processes concurrently."""
    decode_tasks: int
    batch_size: int | None
    bytes_in_flight: int
    """Maximum bytes of pixels that are decoded or queued at once."""
    decode_where: Mapping[str, Any] = field(default_factory=dict)
    """Ray options that restrict the nodes for decoding; `predict_where` and `write_where` alike."""
    max_unit_bytes: int = MAX_UNIT_PIXEL_BYTES
    """Maximum bytes of pixels in a unit; images beyond that stay encoded."""
    predict_where: Mapping[str, Any] = field(default_factory=dict)
    write_where: Mapping[str, Any] = field(default_factory=dict)
    passes: tuple[tuple[str, ...], ...] = ()
    """Models of each pass by alias, if not all fit beside each other."""


def uses_gpu(cluster: Cluster, compute: ComputeConfig) -> bool:
    """Whether the models run on GPUs.

    Raises:
        UsageError: If the job requests a GPU and the cluster has none.
    """
    if compute.device == "cuda" and not cluster.gpus:
        raise UsageError("compute.device: cuda was requested, but the cluster has no GPU; use auto or cpu")
    return cluster.gpus > 0 and compute.device != "cpu"


def allocate_resources(
    cluster: Cluster,
    compute: ComputeConfig,
    models: Sequence[ModelSpec],
    rows: int,
    certificate: TuningResult,
) -> ResourcePlan:
    """Divide the cluster between the stages.

    Args:
        cluster: Available nodes and memory.
        compute: The requested resources.
        models: Of the job.
        rows: Number of remaining images; a short run gets smaller units, so that all stages have work.
        certificate: Of the run's setting; its measured rates, if any, size the units.

    Raises:
        UsageError: If the job requests a GPU and the cluster has none, if no node can run a stage, or if the object
            store is too small.
    """
    on_gpu = uses_gpu(cluster, compute)
    decode_nodes = _nodes_allowed(cluster, compute.decode, "decode")
    predict_nodes = _nodes_allowed(cluster, compute.predict, "predict")
    cpus_per_actor = (
        _CPUS_IF_PYTHON if rows >= _WORTH_PROCESSES and any(map(_works_in_python, models)) else _CPUS_PER_ACTOR
    )
    actors, cpus, threads = (
        _plan_gpu_actors(predict_nodes) if on_gpu else _plan_cpu_actors(predict_nodes, cpus_per_actor)
    )
    if compute.num_actors != "auto":
        threads = max(1, threads * actors // compute.num_actors)
        cpus = cpus if on_gpu else _whole_cpus(cpus * actors / compute.num_actors)
        actors = compute.num_actors
    if cluster.local:
        threads = min(threads, max(1, usable_cores() // actors))
    shared_cpus = sum(node.cpus for node in decode_nodes if node in predict_nodes)
    decode_only_cpus = sum(node.cpus for node in decode_nodes) - shared_cpus
    decode_tasks = max(1, int(decode_only_cpus + max(0.0, shared_cpus - actors * cpus)) // DECODE_THREADS)
    batch_size = None if compute.batch_size == "auto" else compute.batch_size
    if cluster.memory_limit is not None and not on_gpu:
        usual_batch_size = batch_size or _assumed_batch_size(certificate.setting)
        wanted = MemoryShares(actors, threads, usual_batch_size, decode_tasks)
        fitting = shares_that_fit(models, wanted, cluster.object_store_bytes, cluster.memory_limit)
        actors = fitting.actors if compute.num_actors == "auto" else actors
        threads, decode_tasks = fitting.lanes, fitting.decoders
        batch_size = (
            batch_size if fitting.batch_size == usual_batch_size else reduced_batch_size(models, fitting.batch_size)
        )
    gflops_per_image = sum((model.gflops or _UNKNOWN_GFLOPS) * expected_tiles(model.view) for model in models)
    predict_rate = (_GFLOPS_PER_GPU if on_gpu else _GFLOPS_PER_THREAD * threads) / gflops_per_image
    slowest_rate = predict_rate
    if (measured := certificate.measured_rates()) is not None:
        slowest_rate = predict_rate = measured["predict"]
        if not certificate.setting.device_decode:  # with large photos decoding is slower than prediction
            slowest_rate = min(predict_rate, DECODE_THREADS * measured["decode_per_core"])
    rows_by_time, rows_by_share = slowest_rate * _UNIT_SECONDS, rows / (_UNITS_PER_ACTOR * actors)
    unit_rows = _power_of_two(min(rows_by_time, rows_by_share)) if compute.unit_rows == "auto" else compute.unit_rows
    device = "cuda" if on_gpu else "cpu"
    units_in_flight = max(2, CONCURRENT_UNITS[device], math.ceil(_QUEUED_SECONDS * predict_rate / unit_rows) + 1)
    # a row has the pixels of all views, and no unit holds more pixels than its budget
    row_bytes = row_pixel_bytes(models)
    if certificate.setting.device_decode and certificate.mean_bytes:
        row_bytes = certificate.mean_bytes  # files stay encoded until the device decodes them
    queued_units = int((1 + READY_UNITS_PER_ACTIVE) * units_in_flight * actors) + decode_tasks
    if compute.unit_rows == "auto":
        unit_rows = _power_of_two(
            min(unit_rows, cluster.object_store_bytes * _STORE_SHARE / (row_bytes * queued_units))
        )
    overlap_units = not on_gpu and unit_rows < _SMALL_UNIT * threads
    bytes_in_flight = int(queued_units * min(MAX_UNIT_PIXEL_BYTES, row_bytes * unit_rows))
    if compute.unit_rows != "auto" and bytes_in_flight > cluster.object_store_bytes:
        raise UsageError(
            f"{queued_units} units of {unit_rows} rows may hold {bytes_in_flight >> 20} MB of pixels at once, and the "
            f"object store has {cluster.object_store_bytes >> 20} MB; lower compute.unit_rows, or give Ray more memory"
        )
    return ResourcePlan(
        device=device,
        setting=certificate.setting,
        num_actors=actors,
        actor_cpus=cpus,
        actor_gpus=1.0 if on_gpu else 0.0,
        threads=threads,
        unit_rows=unit_rows,
        units_in_flight=units_in_flight,
        units_at_once=2 if overlap_units else CONCURRENT_UNITS[device],
        decode_tasks=decode_tasks,
        bytes_in_flight=bytes_in_flight,
        decode_where=stage_placement(compute.decode),
        predict_where=stage_placement(compute.predict),
        write_where={"resources": affinity} if (affinity := node_affinity(compute.decode)) else {},
        batch_size=batch_size,
        max_unit_bytes=_unit_pixel_budget(cluster, queued_units),
    )


def _nodes_allowed(cluster: Cluster, stage: StageConfig, name: str) -> list[ClusterNode]:
    """Return the nodes where a stage may run; at least one."""
    nodes = cluster.nodes_of(stage)
    if not nodes:
        requirements = {**stage.resources, **stage.label_selector()}
        raise UsageError(
            f"compute.{name}: expected a node with {requirements or 'a CPU'}, and none of the cluster's "
            f"{len(cluster.nodes)} nodes has that; change compute.{name}, or add a node"
        )
    return nodes


def stage_placement(stage: StageConfig) -> dict[str, Any]:
    """Ray options that restrict the nodes of a stage."""
    requirements = {"resources": dict(stage.resources), "label_selector": stage.label_selector()}
    return {name: value for name, value in requirements.items() if value}


def _plan_gpu_actors(nodes: Sequence[ClusterNode]) -> tuple[int, float, int]:
    """Return actors, CPUs and threads: one actor per GPU, with one CPU if every GPU node has CPUs to spare."""
    gpu_nodes = [node for node in nodes if node.gpus]
    has_spare_cpus = all(node.cpus > node.gpus for node in gpu_nodes)
    return max(1, int(sum(node.gpus for node in gpu_nodes))), 1.0 if has_spare_cpus else 0.0, 1


def _works_in_python(model: ModelSpec) -> bool:
    """Whether a large part of an actor's work is Python: its threads build boxes or masks image by image."""
    return is_setting_applicable("lanes", [model]) and TASKS[model.task].locates_objects


def _plan_cpu_actors(nodes: Sequence[ClusterNode], max_cpus: int) -> tuple[int, float, int]:
    """Return actors, CPUs and threads: equal actors of at most `max_cpus`, as many as fit each node.

    Much smaller nodes only decode. Half of the CPUs are reserved for decoding; the threads use all CPUs, and the
    operating system divides them.
    """
    largest = max(node.cpus for node in nodes)
    node_cpus = [node.cpus for node in nodes if node.cpus >= _WORTH_AN_ACTOR * largest]
    smallest = min(node_cpus)
    cpus_per_actor = smallest / max(1, math.ceil(smallest / max_cpus))
    actors = max(1, sum(int(cpus / cpus_per_actor) for cpus in node_cpus))
    return actors, max(1.0, sum(node_cpus) / 2 // actors), max(1, int(cpus_per_actor))


def _assumed_batch_size(setting: InferenceSettings) -> int:
    return max(1, round(ASSUMED_BATCH_SIZE * setting.batch_factor * (1 if setting.precision == "fp32" else 2)))


def _unit_pixel_budget(cluster: Cluster, queued_units: int) -> int:
    """Return the maximum bytes of pixels per unit; where memory is limited, all queued units must fit the store."""
    if cluster.memory_limit is None:
        return MAX_UNIT_PIXEL_BYTES
    return min(MAX_UNIT_PIXEL_BYTES, max(1, cluster.object_store_bytes // queued_units))


def _whole_cpus(cpus: float) -> float:
    """Round down to whole CPUs; below one CPU to a fraction, so that decoding keeps its share."""
    return math.floor(cpus) if cpus >= 1 else math.floor(cpus * _CPU_FRACTIONS) / _CPU_FRACTIONS


def _power_of_two(rows: float) -> int:
    return int(min(_MAX_UNIT, max(_MIN_UNIT, 2 ** round(math.log2(max(1.0, rows))))))


def make_predict_options(output: Location, request: TuningRequest, resource_plan: ResourcePlan) -> PredictOptions:
    """Return the options of the actors under a resource plan."""
    return PredictOptions(
        output=output,
        decode=replace(
            request.decode.with_settings(resource_plan.setting), max_unit_bytes=resource_plan.max_unit_bytes
        ),
        device=resource_plan.device,
        setting=resource_plan.setting,
        batch_size=resource_plan.batch_size,
        threads=resource_plan.threads,
        stalled_after=request.compute.stalled_after,
        weight_files=request.weight_files,
        aliases=tuple(model.alias for model in request.models),
    )
