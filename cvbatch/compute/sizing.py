"""How many actors and threads, and how large a unit: arithmetic over the cluster and the models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvbatch.compute.cluster import Cluster, local_cores
from cvbatch.compute.decode_stage import THREADS
from cvbatch.config import ComputeConfig
from cvbatch.errors import UsageError
from cvbatch.models.spec import ModelSpec

_UNIT_SECONDS: Final = 4.0
_UNITS_PER_ACTOR: Final = 4
_MIN_UNIT, _MAX_UNIT = 4, 512
_CPUS_PER_ACTOR: Final = 8
_GFLOPS_PER_THREAD: Final = 30.0
"""What one core does of a network's nominal work in a second; rough, it only sizes units."""
_GFLOPS_PER_GPU: Final = 8000.0
_UNKNOWN_GFLOPS: Final = 2.0
_QUEUED_SECONDS: Final = 0.25
"""Work to keep queued at an actor, because the scheduler ticks at 100 ms."""


@dataclass(frozen=True, slots=True)
class Pools:
    """The stages' shares of the cluster."""

    device: str
    precision: str
    num_actors: int
    actor_cpus: float
    actor_gpus: float
    threads: int
    unit_rows: int
    units_in_flight: int
    decode_tasks: int
    batch_size: int | None


def size_pools(cluster: Cluster, compute: ComputeConfig, models: Sequence[ModelSpec], rows: int) -> Pools:
    """Share the cluster between the stages.

    Args:
        cluster: What there is.
        compute: What was asked for.
        models: The models of the job.
        rows: Images to go; a short run is cut finer, so that all stages have work.

    Raises:
        UsageError: If a GPU is asked for and the cluster has none.
    """
    if compute.device == "cuda" and not cluster.gpus:
        raise UsageError("compute.device: cuda was asked for, but the cluster has no GPU; use auto or cpu")
    on_gpu = cluster.gpus > 0 and compute.device != "cpu"
    per_node = cluster.cpus / cluster.nodes
    if on_gpu:
        actors, cpus, threads = int(cluster.gpus), 1.0, 1
    else:
        actors = max(1, math.ceil(per_node / _CPUS_PER_ACTOR)) * cluster.nodes
        # half of the logical CPUs stay with decoding; the threads use all, the system shares them out
        cpus = max(1.0, (per_node * cluster.nodes / 2) // actors)
        threads = max(1, int(per_node * cluster.nodes / actors))
    if compute.num_actors != "auto":
        threads = max(1, threads * actors // compute.num_actors)
        cpus = max(1.0, cpus * actors // compute.num_actors)
        actors = compute.num_actors
    if cluster.local:
        threads = min(threads, local_cores())
    work = sum(model.gflops or _UNKNOWN_GFLOPS for model in models)
    rate = (_GFLOPS_PER_GPU if on_gpu else _GFLOPS_PER_THREAD * threads) / work
    by_time, by_share = rate * _UNIT_SECONDS, rows / (_UNITS_PER_ACTOR * actors)
    unit_rows = _power_of_two(min(by_time, by_share)) if compute.unit_rows == "auto" else compute.unit_rows
    return Pools(
        device="cuda" if on_gpu else "cpu",
        precision=choose_precision(compute.precision, models, on_gpu=on_gpu),
        num_actors=actors,
        actor_cpus=cpus,
        actor_gpus=1.0 if on_gpu else 0.0,
        threads=threads,
        unit_rows=unit_rows,
        units_in_flight=max(2, math.ceil(_QUEUED_SECONDS * rate / unit_rows) + 1),
        decode_tasks=max(1, int(cluster.cpus - actors * cpus) // THREADS),
        batch_size=None if compute.batch_size == "auto" else compute.batch_size,
    )


def allowed_seconds(compute: ComputeConfig, nodes: int) -> float | None:
    """How long a start may take, by the clock and by what the nodes cost; None for ever."""
    limits = [compute.stop_after]
    if compute.max_cost is not None and compute.price_per_node_hour is not None:
        limits.append(3600 * compute.max_cost / (compute.price_per_node_hour * nodes))
    return min((limit for limit in limits if limit is not None), default=None)


def choose_precision(asked: str, models: Sequence[ModelSpec], *, on_gpu: bool) -> str:
    """Decide what `precision: auto` means.

    Real weights keep fp32, which is the reference. Random weights have no answers to protect: they get the
    fastest setting of the device.
    """
    if asked != "auto":
        return asked
    if not all(model.random for model in models):
        return "fp32"
    return "bf16" if on_gpu or _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def _power_of_two(rows: float) -> int:
    return int(min(_MAX_UNIT, max(_MIN_UNIT, 2 ** round(math.log2(max(1.0, rows))))))
