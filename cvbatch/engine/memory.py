"""Memory that a run on one machine needs, and the processes that fit a container's limit.

Anonymous memory as measured with Ray 2.60 and torch 2.14: 147 MB for the driver, 570 MB for Ray's own processes,
125 MB for a decode process, 430 MB plus the weights for a predict process. A run also needs the memory of one forward
pass, and file pages that are in constant use. EfficientNet-Lite0 runs in 1.47 GB and not in 1.36 GB; this module
computes 1.45 GB.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cvbatch.config.compute import ComputeConfig
from cvbatch.engine.address import cluster_address
from cvbatch.engine.host_checks import LEAST_ADDRESS_SPACE
from cvbatch.errors import UsageError
from cvbatch.images.letterbox import largest_frame
from cvbatch.images.preprocess import View
from cvbatch.models.backends import backend_of
from cvbatch.models.spec import ModelSpec
from cvbatch.system.control_group import ROOT, address_space_limit, memory_limit
from cvbatch.tasks import TASKS

_MB: Final = 1_000_000
_RUNTIME_BYTES: Final = 720 * _MB
"""The driver and Ray's processes."""
_DECODER_BYTES: Final = 150 * _MB
"""A decode process with two photos of 12 megapixels at once."""
_TORCH_BYTES: Final = 430 * _MB
"""A predict process without its models."""
_FILE_CACHE_BYTES: Final = 25 * _MB
"""Pages of libraries; with less memory they are read again and again."""
_TYPICAL_VIEW_PIXELS: Final = 224 * 224
_PER_IMAGE: Final = 10 * _MB
"""Bytes of a forward pass per image of typical size: EfficientNet-Lite0 11 MB, ResNet-50 5 MB, ViT-L 9 MB."""
_PER_GFLOP: Final = 5 * _MB
"""The same for models of boxes or masks, per GFLOP: 5.2 MB for Faster R-CNN, 3.4 MB for DeepLabV3."""
_TILED_DECODER_BYTES: Final = 200 * _MB
"""More for a decode process that cuts tiles: the rows of two pictures of 20,000 pixels' width, and files of 50 MB."""
_TILED_PREDICTOR_BYTES: Final = 600 * _MB
"""More for a predict process: the file of a picture of 400 megapixels, some of its rows, tiles of 64 MB, its boxes or
segments."""
_TYPICAL_TILES: Final = 16
"""Tiles of a picture whose size is not known yet: 3,500 × 3,500 pixels in tiles of 1,024."""
ASSUMED_BATCH_SIZE: Final = 8
_GPU_LANES: Final = 3
"""Batches that a GPU works on at once, as in `inference.predictor`."""
_LEAST_STORE: Final = 80 * _MB
"""Ray's own smallest object store is 79 MB."""
_STORE_IMAGES: Final = 40
"""Minimum number of images that the store must hold: five units of four rows, twice."""
_RAY_STORE_SHARE: Final = 0.3
"""Share of the memory that Ray gives to its object store."""


class MemoryShares(NamedTuple):
    """Numbers of processes and threads."""

    actors: int
    lanes: int
    """Concurrent forward passes per actor."""
    batch_size: int
    decoders: int


MIN_SHARES: Final = MemoryShares(1, 1, 1, 1)


def needed_bytes(models: Sequence[ModelSpec], shares: MemoryShares, store_bytes: int) -> int:
    """Return the bytes that a run needs.

    Args:
        models: Of the job.
        shares: Processes and threads.
        store_bytes: Bytes of Ray's object store.
    """
    passes = [
        shares.lanes * _forward_pass_bytes(model) * (1 if _goes_one_by_one(model) else shares.batch_size)
        for model in models
    ]
    predictor = _TORCH_BYTES + sum(_total_weight_bytes(models)) + max(passes, default=0)
    decoder = _DECODER_BYTES
    if any(model.view.tiles is not None for model in models):
        predictor, decoder = predictor + _TILED_PREDICTOR_BYTES, decoder + _TILED_DECODER_BYTES
    return _RUNTIME_BYTES + _FILE_CACHE_BYTES + store_bytes + shares.actors * predictor + shares.decoders * decoder


def models_bytes(models: Sequence[ModelSpec], *, on_gpu: bool) -> int:
    """Return the bytes of models on their device: all weights, and the largest forward pass of a batch of eight.

    Larger batches are tried, and made smaller where memory runs out.

    Args:
        models: That share the device.
        on_gpu: Whether it is a GPU, which works on several batches at once.
    """
    batches = [_forward_pass_bytes(model) * (1 if _goes_one_by_one(model) else ASSUMED_BATCH_SIZE) for model in models]
    weights = _total_weight_bytes(models)
    return sum(weights[:-1] if on_gpu else weights) + max(batches, default=0) * (_GPU_LANES if on_gpu else 1)


def check_memory_suffices(models: Sequence[ModelSpec], compute: ComputeConfig, limit: int | None, *, gpu: bool) -> None:
    """Check that a container is large enough for a job.

    Args:
        models: Of the job.
        compute: The requested resources.
        limit: Bytes that the container may use; None for no limit.
        gpu: Whether this machine has a GPU, whose memory the container does not limit.

    Raises:
        UsageError: If the container is too small.
    """
    requested = MemoryShares(
        1 if compute.num_actors == "auto" else compute.num_actors,
        1,
        1 if compute.batch_size == "auto" else compute.batch_size,
        1,
    )
    needed = needed_bytes(models, requested, min_store_bytes(models))
    if limit is None or needed <= limit or (gpu and compute.device != "cpu"):
        return
    least_needed = needed_bytes(models, MIN_SHARES, min_store_bytes(models))
    advice = "; or leave compute.num_actors and compute.batch_size to auto" if least_needed <= limit else ""
    raise UsageError(f"{describe_need_and_limit(limit, needed)}: give it more memory, or take a smaller model{advice}")


def describe_need_and_limit(limit: int, needed: int) -> str:
    """Return a phrase with the limit of the container and the need of the job, both in bytes."""
    needed = max(needed, limit + _MB * 100)
    return f"the container has {limit / 1e9:.1f} GB, this job needs about {needed / 1e9:.1f} GB"


def min_store_bytes(models: Iterable[ModelSpec]) -> int:
    """Return the minimum size of the object store for a job, in bytes."""
    return max(_LEAST_STORE, int(_STORE_IMAGES * row_pixel_bytes(models)))


def object_store_bytes(models: Sequence[ModelSpec], compute: ComputeConfig, root: Path = ROOT) -> int | None:
    """Return the bytes of Ray's object store on this machine; None in a cluster, or where Ray decides.

    Args:
        models: Of the job.
        compute: The requested resources.
        root: Root folder of the system's files.

    Raises:
        UsageError: If the container is too small for the job.
    """
    if cluster_address() is not None:
        return None
    limit = memory_limit(root)
    check_memory_suffices(models, compute, limit, gpu=has_nvidia_gpu())
    return fitting_store_bytes(models, limit, address_space_limit())


def fitting_store_bytes(models: Sequence[ModelSpec], limit: int | None, address_limit: int | None) -> int | None:
    """Return the bytes of Ray's object store; None where nothing is limited and Ray decides.

    Args:
        models: Of the job.
        limit: Bytes that all processes together may use; None for no limit.
        address_limit: Bytes that each process may map; None for no limit.
    """
    candidates = []
    if limit is not None:
        spare = limit - needed_bytes(models, MIN_SHARES, 0)
        candidates.append(int(min(_RAY_STORE_SHARE * limit, max(min_store_bytes(models), spare / 3))))
    if address_limit is not None:
        candidates.append(max(_LEAST_STORE, (address_limit - LEAST_ADDRESS_SPACE) // 2))
    return min(candidates, default=None)


def shares_that_fit(
    models: Sequence[ModelSpec], wanted_shares: MemoryShares, store_bytes: int, limit: int | None
) -> MemoryShares:
    """Reduce the numbers of processes and threads until they fit the memory.

    Args:
        models: Of the job.
        wanted_shares: Numbers that the processors allow.
        store_bytes: Bytes of Ray's object store.
        limit: Bytes that all processes together may use; None for no limit.

    Returns:
        At least one of each.
    """
    shares = wanted_shares
    for name in ("actors", "decoders", "batch_size", "lanes"):
        while limit is not None and getattr(shares, name) > 1 and needed_bytes(models, shares, store_bytes) > limit:
            shares = shares._replace(**{name: max(1, getattr(shares, name) * 3 // 4)})
    return shares


def reduced_batch_size(models: Sequence[ModelSpec], batch_size: int) -> int:
    """Return a batch size for all models: 1 if a model takes images one by one, as the size applies to it, too."""
    return 1 if any(map(_goes_one_by_one, models)) else batch_size


def is_memory_tight(models: Sequence[ModelSpec], limit: int | None) -> bool:
    """Whether memory does not suffice to measure two settings side by side."""
    return limit is not None and limit < 2 * needed_bytes(models, MIN_SHARES, min_store_bytes(models))


def has_nvidia_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def expected_tiles(view: View) -> int:
    """Return how many images a network sees of a picture: 1 without tiles, else a usual number."""
    return 1 if view.tiles is None else _TYPICAL_TILES


def row_pixel_bytes(models: Iterable[ModelSpec]) -> float:
    """Return the bytes of the pixels of one row, in all views of the models."""
    return sum(view_pixel_bytes(view) * expected_tiles(view) for view in {model.view for model in models})


def view_pixel_bytes(view: View) -> float:
    """Return the bytes of the pixels of one image, or of one tile.

    A view that keeps the original size counts as 2 megapixels.
    """
    frame = largest_frame(view.letterbox) if view.letterbox is not None else view.crop
    if frame is not None:
        return 3.0 * frame[0] * frame[1]
    if isinstance(view.resize, tuple):
        return 3.0 * view.resize[0] * view.resize[1]
    if view.resize is None and view.tiles is not None:
        return 3.0 * view.tiles.size**2
    return 3.0 * 1.5 * view.resize**2 if view.resize is not None else 6e6


def _goes_one_by_one(model: ModelSpec) -> bool:
    return TASKS[model.task].goes_one_by_one


def _forward_pass_bytes(model: ModelSpec) -> int:
    if TASKS[model.task].locates_objects and backend_of(model).memory_follows_work:
        return int(max(_PER_IMAGE, _PER_GFLOP * (model.gflops or 0)))
    return int(_PER_IMAGE * view_pixel_bytes(model.view) / 3 / _TYPICAL_VIEW_PIXELS)


def _total_weight_bytes(models: Sequence[ModelSpec]) -> list[int]:
    """Return the bytes of each network's weights, and once more those of the largest, for the file while it is read."""
    sizes = {
        (model.kind, model.name, model.weights, model.weights_path): backend_of(model).weight_bytes(model)
        for model in models
    }
    return [*sizes.values(), max(sizes.values(), default=0)]
