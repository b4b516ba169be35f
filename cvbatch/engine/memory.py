"""How much memory a run on this machine alone takes, and what fits a container that limits it.

Measured with Ray 2.60 and torch 2.14, as memory that belongs to no file: the driver 147 MB, Ray's own processes 570 MB,
a process that decodes 125 MB, one that predicts 430 MB and its weights. To that come what one forward pass holds, and
pages of files that are needed all the time. EfficientNet-Lite0 runs in 1.47 GB and not in 1.36; this finds 1.45.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cvbatch.config.compute import ComputeConfig
from cvbatch.engine.address import cluster_address
from cvbatch.engine.host_checks import LEAST_ADDRESS_SPACE
from cvbatch.errors import UsageError
from cvbatch.images.preprocess import View
from cvbatch.models.backends import backend_of
from cvbatch.models.spec import ModelSpec
from cvbatch.system.control_group import ROOT, address_space_limit, memory_limit
from cvbatch.tasks import TASKS

_MB: Final = 1_000_000
_RUNTIME_BYTES: Final = 720 * _MB
"""The driver and Ray's processes."""
_DECODER_BYTES: Final = 150 * _MB
"""A process that decodes, with two photos of 12 megapixels at once."""
_TORCH_BYTES: Final = 430 * _MB
"""A process that predicts, without its models."""
_FILE_CACHE_BYTES: Final = 25 * _MB
"""Pages of libraries; with less they are read again and again."""
_TYPICAL_VIEW_PIXELS: Final = 224 * 224
_PER_IMAGE: Final = 10 * _MB
"""What a pass holds for each image of the usual size: EfficientNet-Lite0 11 MB, ResNet-50 5, ViT-L 9."""
_PER_GFLOP: Final = 5 * _MB
"""The same where boxes or masks are made: Faster R-CNN 5.2 MB, DeepLabV3 3.4."""
DEFAULT_BATCH_SIZE: Final = 8
_LEAST_STORE: Final = 80 * _MB
"""Ray's own smallest object store is 79 MB."""
_STORE_IMAGES: Final = 40
"""That the store must hold at least: five units of four rows, twice."""
_RAY_STORE_SHARE: Final = 0.3
"""Of the memory, that Ray gives to its store."""


class MemoryShares(NamedTuple):
    """How many processes and threads there are."""

    actors: int
    lanes: int
    """Passes at once in each."""
    batch_size: int
    decoders: int


MIN_SHARES: Final = MemoryShares(1, 1, 1, 1)


def needed_bytes(models: Sequence[ModelSpec], shares: MemoryShares, store: int) -> int:
    """Bytes that a run takes.

    Args:
        models: Of the job.
        shares: Processes and threads.
        store: Bytes of Ray's object store.
    """
    passes = [
        shares.lanes * _forward_pass_bytes(model) * (1 if _goes_one_by_one(model) else shares.batch_size)
        for model in models
    ]
    predictor = _TORCH_BYTES + sum(_total_weight_bytes(models)) + max(passes, default=0)
    return _RUNTIME_BYTES + _FILE_CACHE_BYTES + store + shares.actors * predictor + shares.decoders * _DECODER_BYTES


def check_memory_suffices(models: Sequence[ModelSpec], compute: ComputeConfig, limit: int | None, *, gpu: bool) -> None:
    """Check that a container is large enough for a job.

    Args:
        models: Of the job.
        compute: What was asked for.
        limit: Bytes that it may use; None is no limit.
        gpu: Whether this machine has one, whose memory is not the container's.

    Raises:
        UsageError: If it is not.
    """
    asked = MemoryShares(
        1 if compute.num_actors == "auto" else compute.num_actors,
        1,
        1 if compute.batch_size == "auto" else compute.batch_size,
        1,
    )
    need = needed_bytes(models, asked, min_store_bytes(models))
    if limit is None or need <= limit or (gpu and compute.device != "cpu"):
        return
    fewer = needed_bytes(models, MIN_SHARES, min_store_bytes(models))
    advice = "; or leave compute.num_actors and compute.batch_size to auto" if fewer <= limit else ""
    raise UsageError(f"{describe_need_and_limit(limit, need)}: give it more memory, or take a smaller model{advice}")


def describe_need_and_limit(limit: int, need: int) -> str:
    """What there is, and what it takes."""
    return f"the container has {limit / 1e9:.1f} GB, this job needs about {max(need, limit + _MB * 100) / 1e9:.1f} GB"


def min_store_bytes(models: Iterable[ModelSpec]) -> int:
    """The smallest object store that a job can do with, in bytes."""
    return max(_LEAST_STORE, int(_STORE_IMAGES * sum(map(view_pixel_bytes, {model.view for model in models}))))


def object_store_bytes(models: Sequence[ModelSpec], compute: ComputeConfig, root: Path = ROOT) -> int | None:
    """How large Ray's object store is to be on this machine; None where nothing is limited, or there is a cluster.

    Args:
        models: Of the job.
        compute: What it asks for.
        root: Where the files of the system are.

    Raises:
        UsageError: If the container is too small for the job.
    """
    if cluster_address() is not None:
        return None
    limit = memory_limit(root)
    check_memory_suffices(models, compute, limit, gpu=has_nvidia_gpu())
    return fitting_store_bytes(models, limit, address_space_limit())


def fitting_store_bytes(models: Sequence[ModelSpec], limit: int | None, addresses: int | None) -> int | None:
    """How large Ray's object store is to be; None where nothing is limited and Ray decides.

    Args:
        models: Of the job.
        limit: Bytes that all processes may use; None is no limit.
        addresses: The same for what each may map.
    """
    found = []
    if limit is not None:
        spare = limit - needed_bytes(models, MIN_SHARES, 0)
        found.append(int(min(_RAY_STORE_SHARE * limit, max(min_store_bytes(models), spare / 3))))
    if addresses is not None:
        found.append(max(_LEAST_STORE, (addresses - LEAST_ADDRESS_SPACE) // 2))
    return min(found, default=None)


def shares_that_fit(models: Sequence[ModelSpec], wanted: MemoryShares, store: int, limit: int | None) -> MemoryShares:
    """Fewer processes and threads than wanted, if that takes more than there is.

    Args:
        models: Of the job.
        wanted: What the processors could do.
        store: Bytes of Ray's object store.
        limit: Bytes that all may use together; None is no limit.

    Returns:
        At least one of each.
    """
    shares = wanted
    for name in ("actors", "decoders", "batch_size", "lanes"):
        while limit is not None and getattr(shares, name) > 1 and needed_bytes(models, shares, store) > limit:
            shares = shares._replace(**{name: max(1, getattr(shares, name) * 3 // 4)})
    return shares


def reduced_batch_size(models: Sequence[ModelSpec], batch_size: int) -> int:
    """A batch size that holds for every task: where some go one by one, it would make theirs larger."""
    return 1 if any(map(_goes_one_by_one, models)) else batch_size


def is_memory_tight(models: Sequence[ModelSpec], limit: int | None) -> bool:
    """Whether there is no room to try settings side by side."""
    return limit is not None and limit < 2 * needed_bytes(models, MIN_SHARES, min_store_bytes(models))


def has_nvidia_gpu() -> bool:
    """Whether this machine has one; what its processes take is not known beforehand."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def view_pixel_bytes(view: View) -> float:
    """Bytes of the pixels of one image; where a view keeps the size of the original, that of 2 megapixels."""
    if view.crop is not None:
        return 3.0 * view.crop[0] * view.crop[1]
    if isinstance(view.resize, tuple):
        return 3.0 * view.resize[0] * view.resize[1]
    return 3.0 * 1.5 * view.resize**2 if view.resize is not None else 6e6


def _goes_one_by_one(model: ModelSpec) -> bool:
    return TASKS[model.task].goes_one_by_one


def _forward_pass_bytes(model: ModelSpec) -> int:
    if TASKS[model.task].locates_objects and backend_of(model).memory_follows_work:
        return int(max(_PER_IMAGE, _PER_GFLOP * (model.gflops or 0)))
    return int(_PER_IMAGE * view_pixel_bytes(model.view) / 3 / _TYPICAL_VIEW_PIXELS)


def _total_weight_bytes(models: Sequence[ModelSpec]) -> list[int]:
    """Bytes of each network's weights, once in the network and once, for the largest, as they are read."""
    sizes = {
        (model.kind, model.name, model.weights, model.weights_path): backend_of(model).weight_bytes(model)
        for model in models
    }
    return [*sizes.values(), max(sizes.values(), default=0)]
