"""Where the setting of a run comes from: kept, asked for, measured before, measured now, or the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa

from cvbatch.engine.memory import is_memory_tight
from cvbatch.engine.nodes import Cluster
from cvbatch.engine.ray_errors import to_cvbatch_error
from cvbatch.engine.resource_plan import allocate_resources, uses_gpu
from cvbatch.inference.compiled_packages import compiled_package_path
from cvbatch.inference.settings import InferenceSettings
from cvbatch.models.backends import is_setting_applicable
from cvbatch.models.spec import ModelSpec
from cvbatch.output.store import Store
from cvbatch.tuning import certificate
from cvbatch.tuning.benchmark import Workload
from cvbatch.tuning.certificate import TuningResult
from cvbatch.tuning.request import TuningRequest
from cvbatch.tuning.search import BenchmarkSpec

Sample = Callable[[int], pa.Table]
"""Gives at most so many rows of the plan, from all over it."""


def choose_run_settings(
    store: Store, asked: TuningRequest, cluster: Cluster, rows: int, sample: Sample
) -> TuningResult:
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
    if (there := certificate.load_run_settings(store)) is not None:
        return there
    return certificate.save_run_settings(
        store, certificate.requested_settings(asked.compute) or find_or_measure(asked, cluster, sample, rows=rows)
    )


def find_or_measure(
    asked: TuningRequest, cluster: Cluster, sample: Sample, *, rows: int, always: bool = False
) -> TuningResult:
    """The certificate of these models on this machine.

    Args:
        asked: What it is for.
        cluster: Connected.
        sample: For measuring.
        rows: Images to go: what does not pay for them is not measured.
        always: Measure even so, and what was measured before again.

    Raises:
        RunError: If the measuring fails.
    """
    from ray.exceptions import RayError

    from cvbatch.engine.tasks import measure_settings_in_task

    on_gpu = uses_gpu(cluster, asked.compute)
    guess = certificate.default_settings(asked.compute, asked.models, on_gpu=on_gpu)
    pools = allocate_resources(cluster, asked.compute, asked.models, rows, guess)
    cache = certificate.TuningCache(pools.device, asked.models, pools.threads)
    tried = certificate.candidate_settings(asked.compute, asked.models, on_gpu=on_gpu)
    pays_below = certificate.compile_pays_below(rows)
    if not always:
        known = _load_known(cache, tried, asked.models)
        searching = certificate.is_search_worthwhile(rows, tried, asked.models, on_gpu=on_gpu)
        if known is not None and (not searching or _is_thorough(known, asked, pays_below, sample)):
            return known if _is_ready_to_use(known, asked, cluster, pays_below) else known.without_compiling()
        if not searching or is_memory_tight(asked.models, cluster.memory_limit):
            return guess
    work = Workload(asked.models, asked.decode, pools.device, pools.threads, pools.batch_size, asked.files)
    trial = BenchmarkSpec(work, tuple(tried), pays_below)
    some = sample(certificate.SAMPLE_IMAGES)
    try:
        measured = measure_settings_in_task(some, trial, pools)
    except RayError as error:
        raise to_cvbatch_error(error) from None
    found = certificate.choose_candidate(measured, has_answers=trial.has_trained_weights)
    found = replace(found, large_files=certificate.have_large_files(some))
    if found.has_enough_images:
        cache.save_result(found)
    return found


def _load_known(
    cache: certificate.TuningCache, tried: Sequence[InferenceSettings], models: Sequence[ModelSpec]
) -> TuningResult | None:
    """What was measured before, if the job still allows it."""
    known = cache.load_result()
    if (
        known is None
        or InferenceSettings(known.setting.precision, scaled_decode=known.setting.scaled_decode) not in tried
    ):
        return None
    scaling = any(each.scaled_decode for each in tried) and not known.setting.device_decode
    if scaling and not known.tried_scaling and not certificate.have_trained_weights(models):
        # it was measured on small images, and where there are no answers to protect it only ever saves time
        return replace(known, setting=replace(known.setting, scaled_decode=True))
    return known


def _compiling_pays(known: TuningResult, pays_below: float) -> bool:
    """Whether the run is long enough for compiling."""
    rates = known.measured_rates()
    return rates is not None and rates["together"] < pays_below


def _is_thorough(known: TuningResult, asked: TuningRequest, pays_below: float, sample: Sample) -> bool:
    """Whether a longer search would find nothing more for this run."""
    scaling = certificate.can_scale_decode(asked.compute, asked.models) and certificate.have_trained_weights(
        asked.models
    )
    searched = known.tried_scaling or known.large_files
    if scaling and not searched and certificate.have_large_files(sample(certificate.SAMPLE_IMAGES)):
        return False
    return known.tried_compiling or not (
        _compiling_pays(known, pays_below) and is_setting_applicable("compiled", asked.models)
    )


def _is_ready_to_use(known: TuningResult, asked: TuningRequest, cluster: Cluster, pays_below: float) -> bool:
    """Whether the run can wait for what must be compiled first; another node may have to do that anew."""
    if not known.setting.compiled or _compiling_pays(known, pays_below):
        return True
    packages = [
        compiled_package_path(model, known.setting)
        for model in asked.models
        if is_setting_applicable("compiled", [model])
    ]
    return cluster.local and all(path.exists() for path in packages)
