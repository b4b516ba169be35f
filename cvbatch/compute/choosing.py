"""Where the setting of a run comes from: kept, asked for, measured before, measured now, or the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from cvbatch.compute import settings
from cvbatch.compute.cluster import Cluster
from cvbatch.compute.decode_stage import DecodeOptions
from cvbatch.compute.settings import REFERENCE, Certificate
from cvbatch.compute.sizing import size_pools, uses_gpu
from cvbatch.compute.trouble import plain
from cvbatch.compute.tuning import Trial
from cvbatch.config import ComputeConfig, Job
from cvbatch.models.spec import ModelSpec
from cvbatch.writing.store import Store

Sample = Callable[[int], pa.Table]
"""Gives at most so many rows of the plan, from all over it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a setting is for."""

    models: tuple[ModelSpec, ...]
    decode: DecodeOptions
    compute: ComputeConfig

    @staticmethod
    def of(job: Job, models: Sequence[ModelSpec]) -> Asked:
        """What a job asks for, with its models complete."""
        views = tuple(dict.fromkeys(model.view for model in models))
        decode = DecodeOptions(views=views, max_pixels=job.source.max_pixels, exif=job.source.exif)
        return Asked(tuple(models), decode, job.compute)


def setting_of_run(store: Store, asked: Asked, cluster: Cluster, rows: int, sample: Sample) -> Certificate:
    """The setting of a run, which is the same for all its starts.

    Args:
        store: The output; the setting is kept there.
        asked: What it is for.
        cluster: Connected.
        rows: Images to go.
        sample: For measuring, if that pays.

    Raises:
        RunError: If the measuring fails.
    """
    if (there := settings.kept(store)) is not None:
        return there
    found = settings.fixed(asked.compute, asked.models, on_gpu=uses_gpu(cluster, asked.compute))
    return settings.keep(store, found or certified(asked, cluster, sample, rows=rows))


def certified(asked: Asked, cluster: Cluster, sample: Sample, *, rows: int | None) -> Certificate:
    """The certificate of these models on this machine.

    Args:
        asked: What it is for.
        cluster: Connected.
        sample: For measuring.
        rows: Images to go: where measuring would not pay for them, the reference is taken. None always measures.

    Raises:
        RunError: If the measuring fails.
    """
    from ray.exceptions import RayError

    from cvbatch.compute.remote import measure_settings

    reference = Certificate(REFERENCE, "the reference: a search for a faster setting would not pay for this run")
    pools = size_pools(cluster, asked.compute, asked.models, rows or settings.SAMPLE, reference)
    cache = settings.Cache(pools.device, asked.models, pools.threads)
    tried = settings.candidates(asked.compute, asked.models, on_gpu=pools.device == "cuda")
    if rows is not None:
        if (known := cache.load()) is not None and known.setting in tried:
            return known
        if not settings.worth_searching(rows, tried):
            return reference
    trial = Trial(asked.models, asked.decode, pools.device, pools.threads, pools.batch_size, tuple(tried))
    try:
        found = settings.choose(measure_settings(sample(settings.SAMPLE), trial, pools))
    except RayError as error:
        raise plain(error) from None
    if found.measured_enough:
        cache.save(found)
    return found
