"""Estimate of a run: number of images, resources, speed and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pyarrow as pa

from cvbatch.config.job import Job
from cvbatch.engine.choose_settings import find_or_measure
from cvbatch.engine.model_passes import plan_passes, plan_resources_of_passes
from cvbatch.engine.nodes import Cluster
from cvbatch.engine.resource_plan import ResourcePlan, uses_gpu
from cvbatch.engine.starting_ray import start_ray
from cvbatch.engine.weight_transfer import TransferredWeights
from cvbatch.errors import SourceError
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.planning.units import take_evenly
from cvbatch.schema import IMAGE_BYTES, ROW_ID
from cvbatch.sources import open_source
from cvbatch.sources.entries import ImageSource
from cvbatch.tuning import certificate
from cvbatch.tuning.certificate import TuningResult
from cvbatch.tuning.request import TuningRequest

_SAMPLE_ROWS_PER_CHUNK: Final = 64


def estimate_run(job: Job, *, pythonpath: str | None = None) -> dict[str, Any]:
    """List a source, measure speed on a sample of its images, and calculate; nothing is written to the output.

    The measured settings are cached on this machine, so the next run of these models starts without measuring.

    Args:
        job: The job to estimate.
        pythonpath: Folder that the workers can import from, in addition to installed packages.

    Returns:
        Plain data for JSON.

    Raises:
        UsageError: If the request is wrong.
        RunError: If measuring fails.
    """
    models, source = resolve_models(job.models, folder=pythonpath), open_source(job.source)
    images, size, sample = _list_and_sample(source, job.source.limit)
    if images <= source.listing.lost:
        raise SourceError(f"{', '.join(job.source.uris)} holds no images")
    with start_ray(job.output.location, models, job.compute, pythonpath) as starting_engine:
        models = starting_engine.probe_models(models, job.compute)
        cluster = starting_engine.wait_for_cluster(job.compute)
        request = TuningRequest.from_job(job, models, TransferredWeights.put_into_store(models, local=cluster.local))
        passes = plan_passes(models, job.compute, cluster)
        certificates = [
            find_or_measure(request.with_models(group), cluster, partial(take_evenly, sample), rows=images, always=True)
            for group in passes
        ]
    result, rates = _combine_passes(certificates, job, models, on_gpu=uses_gpu(cluster, job.compute))
    pools = plan_resources_of_passes(cluster, job.compute, passes, images, result)[0]
    return {
        "images": images,
        "bytes": size,
        "skipped": dict(source.listing.skipped),
        "unreadable": source.listing.unreadable_notes,
        **_estimate_speed(images, rates, cluster, pools, job.compute.price_per_node_hour),
        "actors": pools.num_actors,
        "threads": pools.threads,
        "decode_tasks": pools.decode_tasks,
        "unit_rows": pools.unit_rows,
        "units_in_flight": pools.units_in_flight,
        "bytes_in_flight": pools.bytes_in_flight,
        "object_store_bytes": cluster.object_store_bytes,
        "device": pools.device,
        "passes": [list(aliases) for aliases in pools.passes],
        "parity": result.to_json(),
    }


def _combine_passes(
    measured: Sequence[TuningResult], job: Job, models: Sequence[ModelSpec], *, on_gpu: bool
) -> tuple[TuningResult, Mapping[str, float]]:
    """The setting of a run and its rates; each image goes through all passes, so their times add up."""
    if len(measured) == 1:
        return measured[0], _rates_of(measured[0])
    result = certificate.requested_settings(job.compute) or certificate.settings_of_passes(
        job.compute, models, on_gpu=on_gpu
    )
    rates = [replace(one, setting=result.setting).measured_rates() or _rates_of(one) for one in measured]
    return result, {name: 1 / sum(1 / rate[name] for rate in rates) for name in rates[0]}


def _rates_of(measured: TuningResult) -> Mapping[str, float]:
    rates = measured.measured_rates()
    assert rates is not None, "always=True measures"
    return rates


def _estimate_speed(
    images: int,
    rates: Mapping[str, float],
    cluster: Cluster,
    resource_plan: ResourcePlan,
    price_per_node_hour: float | None,
) -> dict[str, Any]:
    decode, predict = rates["decode_per_core"], rates["predict"]
    if resource_plan.device == "cpu":
        rate = resource_plan.num_actors * rates["together"]
        bottleneck = "predict" if 1 / predict > 1 / rates["together"] / 2 else "decode"
        cores_per_gpu = None
    else:
        cores = max(1.0, cluster.cpus - resource_plan.num_actors * resource_plan.actor_cpus)
        rate = min(resource_plan.num_actors * predict, cores * decode)
        bottleneck = "predict" if resource_plan.num_actors * predict < cores * decode else "decode"
        cores_per_gpu = predict / decode
    cost = None if price_per_node_hour is None else price_per_node_hour * len(cluster.nodes) * 1e6 / rate / 3600
    return {
        "rate": rate,
        "seconds": images / rate,
        "bottleneck": bottleneck,
        "decode_per_core": decode,
        "predict_per_actor": predict,
        "cpu_cores_per_gpu": cores_per_gpu,
        "cost_per_million": cost,
    }


def _list_and_sample(source: ImageSource, limit: int | None) -> tuple[int, int, pa.Table]:
    """Number of images, their total bytes as far as known, and an evenly spread sample of rows."""
    count = size = 0
    samples = list[pa.Table]()
    for chunk in source.iter_chunks():
        chunk = chunk if limit is None else chunk.slice(0, limit - count)
        count += chunk.num_rows
        size += sum(value or 0 for value in chunk[IMAGE_BYTES].to_pylist())
        samples.append(take_evenly(chunk, _SAMPLE_ROWS_PER_CHUNK if count > chunk.num_rows else chunk.num_rows))
        if count == limit:
            break
    rows = pa.concat_tables(samples) if samples else pa.table({})
    return count, size, rows.add_column(0, ROW_ID, pa.array(range(rows.num_rows), pa.int64()))
