"""Passes of models: which models share a device, and which get a pass of their own because they do not fit beside them.

All images of a few hundred units go through the first pass, its processes end, and the same images go through the next
one. Most runs have a single pass.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cvbatch.config.compute import ComputeConfig
from cvbatch.engine.memory import MIN_SHARES, min_store_bytes, models_bytes, needed_bytes
from cvbatch.engine.nodes import Cluster
from cvbatch.engine.resource_plan import ResourcePlan, allocate_resources, stage_placement, uses_gpu
from cvbatch.errors import UsageError
from cvbatch.inference.loading import network_key
from cvbatch.models.spec import ModelSpec
from cvbatch.tuning.certificate import TuningResult

ModelPass = tuple[ModelSpec, ...]
_GPU_RESERVE: Final = 1_000_000_000
"""Bytes of a GPU for CUDA itself, its libraries, and what lies unused between tensors."""
_SMALLEST_GPU: Final = 4_000_000_000
"""Models that need less are not worth asking for the size of the GPUs."""
_QUERY_SECONDS: Final = 20.0
_LEAST_LOST: Final = 10
"""Lost units that no wave stops for, as in `runs.passes`."""


def plan_passes(models: Sequence[ModelSpec], compute: ComputeConfig, cluster: Cluster) -> tuple[ModelPass, ...]:
    """Group the models of a job into passes, of models that fit beside each other.

    Args:
        models: Complete specs.
        compute: The requested resources.
        cluster: Where they run.

    Raises:
        UsageError: If a model does not even fit alone.
    """
    if uses_gpu(cluster, compute):
        return plan_gpu_passes(models, compute, lambda: smallest_gpu_bytes(cluster, compute))
    return plan_container_passes(models, compute, cluster.memory_limit)


def largest_pass(models: Sequence[ModelSpec], compute: ComputeConfig, limit: int | None) -> ModelPass:
    """Return the models that need the most memory beside each other on the CPUs of a container.

    Args:
        models: Of the job.
        compute: The requested resources.
        limit: Bytes that all processes together may use; None for no limit.

    Raises:
        UsageError: If a model alone needs more than `compute.model_memory`.
    """
    passes = plan_container_passes(models, compute, limit)
    return max(passes, key=lambda group: needed_bytes(group, MIN_SHARES, min_store_bytes(group)))


def plan_container_passes(
    models: Sequence[ModelSpec], compute: ComputeConfig, limit: int | None
) -> tuple[ModelPass, ...]:
    """Group models on CPUs by what the container allows, and by `compute.model_memory`.

    Args:
        models: Of the job.
        compute: The requested resources.
        limit: Bytes that all processes together may use; None for no limit.

    Returns:
        The passes. A model that does not even fit the container alone is a pass; `check_memory_suffices` refuses it.

    Raises:
        UsageError: If a model alone needs more than `compute.model_memory`.
    """
    allowed = compute.model_memory
    if allowed is not None:
        _check_each_fits(models, allowed, "compute.model_memory allows", on_gpu=False)

    def fits(group: Sequence[ModelSpec]) -> bool:
        within_limit = limit is None or needed_bytes(group, MIN_SHARES, min_store_bytes(group)) <= limit
        return within_limit and (allowed is None or models_bytes(group, on_gpu=False) <= allowed)

    return group_models(models, fits)


def plan_gpu_passes(
    models: Sequence[ModelSpec], compute: ComputeConfig, gpu_bytes: Callable[[], int | None]
) -> tuple[ModelPass, ...]:
    """Group models on GPUs by `compute.model_memory`, or by the memory of the GPUs.

    Args:
        models: Of the job.
        compute: The requested resources.
        gpu_bytes: Returns the memory of the smallest GPU; None if it is not known, and then all models share it until
            one of them does not fit.

    Raises:
        UsageError: If a model alone needs more.
    """
    allowed, what = compute.model_memory, "compute.model_memory allows"
    if allowed is None:
        if models_bytes(models, on_gpu=True) <= _SMALLEST_GPU - _GPU_RESERVE:
            return (tuple(models),)
        found = gpu_bytes()
        if found is None:
            return (tuple(models),)
        allowed, what = found - _GPU_RESERVE, "the GPU has room for"
    limit = allowed
    _check_each_fits(models, limit, what, on_gpu=True)
    return group_models(models, lambda group: models_bytes(group, on_gpu=True) <= limit)


@dataclass(frozen=True, slots=True)
class LossLimit:
    """Most units that may be lost with their processes in a wave, before the run stops."""

    units: int
    of: int
    """Units of the wave."""

    def of_units(self, count: int) -> int:
        """Return the limit for some units of the wave, of which a pass has only these."""
        return min(self.units, max(_LEAST_LOST, self.units * count // max(1, self.of)))


def group_models(models: Sequence[ModelSpec], fits: Callable[[Sequence[ModelSpec]], bool]) -> tuple[ModelPass, ...]:
    """Group models into few passes: the largest first, each into the first pass that it fits.

    Args:
        models: Of the job; those of one network stay together.
        fits: Whether models fit beside each other.

    Returns:
        The passes, and the models of each, in the order of the job.
    """
    if not models or fits(models):
        return (tuple(models),)
    passes = list[list[ModelSpec]]()
    for network in sorted(_networks(models), key=lambda group: models_bytes(group, on_gpu=False), reverse=True):
        fitting = next((group for group in passes if fits([*group, *network])), None)
        if fitting is None:
            passes.append(list(network))
        else:
            fitting += network
    in_order = [tuple(model for model in models if model in group) for group in passes]
    return tuple(sorted(in_order, key=lambda group: models.index(group[0])))


def split_model_pass(models: ModelPass) -> tuple[ModelPass, ...]:
    """Split a pass that did not fit into two; a single network cannot be split."""
    networks = _networks(models)
    middle = (len(networks) + 1) // 2
    halves = (networks[:middle], networks[middle:])
    return tuple(tuple(model for network in half for model in network) for half in halves if half)


def describe_passes(passes: Sequence[Sequence[ModelSpec]]) -> str:
    """Say which models run beside each other, such as `2 passes, as not all models fit into memory: a+b; c`."""
    names = "; ".join("+".join(model.alias or model.name for model in group) for group in passes)
    return f"{len(passes)} passes, as not all models fit into memory at once: {names}"


def plan_resources_of_passes(
    cluster: Cluster,
    compute: ComputeConfig,
    passes: Sequence[Sequence[ModelSpec]],
    rows: int,
    certificate: TuningResult,
) -> list[ResourcePlan]:
    """Divide the cluster between the stages, for each pass; all passes work on the same units.

    Args:
        cluster: Available nodes and memory.
        compute: The requested resources.
        passes: Models of each pass.
        rows: Number of remaining images.
        certificate: Of the run's setting.

    Raises:
        UsageError: As for `allocate_resources`.
    """
    plans = [allocate_resources(cluster, compute, models, rows, certificate) for models in passes]
    names = tuple(tuple(model.alias for model in models) for models in passes) if len(passes) > 1 else ()
    unit_rows = min(plan.unit_rows for plan in plans)
    return [replace(plan, unit_rows=unit_rows, passes=names) for plan in plans]


def _networks(models: Sequence[ModelSpec]) -> list[list[ModelSpec]]:
    """Models by their networks, in the order of the job."""
    groups = dict[object, list[ModelSpec]]()
    for model in models:
        groups.setdefault(network_key(model), []).append(model)
    return list(groups.values())


def _check_each_fits(models: Sequence[ModelSpec], limit: int, what: str, *, on_gpu: bool) -> None:
    for network in _networks(models):
        if (needed := models_bytes(network, on_gpu=on_gpu)) > limit:
            raise UsageError(
                f"{'+'.join(model.alias or model.name for model in network)} needs about "
                f"{_describe_bytes(needed)}, and {what} {_describe_bytes(limit)}: give it more, or take a smaller model"
            )


def _describe_bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def smallest_gpu_bytes(cluster: Cluster, compute: ComputeConfig) -> int | None:
    """Return the memory of the smallest GPU of this machine, or of a node that predicts; None if it is not known."""
    if cluster.local:
        return _query_gpu_bytes()
    import ray

    task = ray.remote(num_cpus=0, num_gpus=0.01, max_retries=0, **stage_placement(compute.predict))(_query_gpu_bytes)
    reference = task.remote()
    done, _ = ray.wait([reference], timeout=3 * _QUERY_SECONDS)
    if not done:
        ray.cancel(reference)
        return None
    found: int | None = ray.get(reference)
    return found


def _query_gpu_bytes() -> int | None:
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=True).stdout
        return min(int(line) for line in answer.split()) << 20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
