"""Choose the setting of a run: stored, requested, measured before, measured now, or the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa

from cvbatch.engine.memory import is_memory_tight
from cvbatch.engine.nodes import Cluster
from cvbatch.engine.ray_errors import to_cvbatch_error
from cvbatch.engine.resource_plan import allocate_resources, uses_gpu
from cvbatch.errors import NoMemoryForModelsError
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
"""Returns at most n rows that are spread over the plan."""


def choose_run_settings(
    store: Store, request: TuningRequest, cluster: Cluster, rows: int, sample: Sample, *, can_measure: bool = True
) -> TuningResult:
    """Return the setting of a run, which is the same for all its attempts.

    Args:
        store: The output, where the setting is stored.
        request: Inputs of the tuner.
        cluster: The connected cluster.
        rows: Number of remaining images.
        sample: Returns rows to measure, if measuring pays.
        can_measure: Whether all models fit beside each other; if not, the setting is that of a short run.

    Raises:
        RunError: If measuring fails.
    """
    if (chosen := certificate.load_run_settings(store)) is not None:
        return chosen
    chosen = certificate.requested_settings(request.compute)
    if chosen is None and not can_measure:
        on_gpu = uses_gpu(cluster, request.compute)
        chosen = certificate.settings_of_passes(request.compute, request.models, on_gpu=on_gpu)
    return certificate.save_run_settings(store, chosen or find_or_measure(request, cluster, sample, rows=rows))


def find_or_measure(
    request: TuningRequest, cluster: Cluster, sample: Sample, *, rows: int, always: bool = False
) -> TuningResult:
    """Return the certificate of these models on this machine.

    Args:
        request: Inputs of the tuner.
        cluster: The connected cluster.
        sample: Returns rows to measure.
        rows: Number of remaining images; a measurement that does not pay for them is skipped.
        always: Measure in any case, and ignore earlier measurements.

    Raises:
        RunError: If measuring fails.
    """
    from ray.exceptions import RayError

    from cvbatch.engine.ray_tasks import measure_settings_in_task

    on_gpu = uses_gpu(cluster, request.compute)
    default = certificate.default_settings(request.compute, request.models, on_gpu=on_gpu)
    resource_plan = allocate_resources(cluster, request.compute, request.models, rows, default)
    cache = certificate.TuningCache(resource_plan.device, request.models, resource_plan.threads)
    candidates = certificate.candidate_settings(request.compute, request.models, on_gpu=on_gpu)
    pays_below = certificate.compile_pays_below(rows)
    if not always:
        known = _load_known(cache, candidates, request.models)
        is_worthwhile = certificate.is_search_worthwhile(rows, candidates, request.models, on_gpu=on_gpu)
        if known is not None and (not is_worthwhile or _is_thorough(known, request, pays_below, sample)):
            return known if _is_ready_to_use(known, request, cluster, pays_below) else known.without_compiling()
        if not is_worthwhile or is_memory_tight(request.models, cluster.memory_limit):
            return default
    workload = Workload(
        request.models,
        request.decode,
        resource_plan.device,
        resource_plan.threads,
        resource_plan.batch_size,
        request.weight_files,
    )
    benchmark = BenchmarkSpec(workload, tuple(candidates), pays_below)
    sample_rows = sample(certificate.SAMPLE_IMAGES)
    try:
        measured = measure_settings_in_task(sample_rows, benchmark, resource_plan)
    except RayError as error:
        reason = to_cvbatch_error(error)
        if isinstance(reason, NoMemoryForModelsError) and not always:
            return default  # the run itself splits them
        raise reason from None
    result = certificate.choose_candidate(measured, has_answers=benchmark.has_trained_weights)
    result = replace(result, large_files=certificate.have_large_files(sample_rows))
    if result.has_enough_images:
        cache.save_result(result)
    return result


def _load_known(
    cache: certificate.TuningCache, candidates: Sequence[InferenceSettings], models: Sequence[ModelSpec]
) -> TuningResult | None:
    """Return the earlier measurement, if the job still allows its setting."""
    known = cache.load_result()
    if (
        known is None
        or InferenceSettings(known.setting.precision, scaled_decode=known.setting.scaled_decode) not in candidates
    ):
        return None
    is_scaling_candidate = any(setting.scaled_decode for setting in candidates) and not known.setting.device_decode
    if is_scaling_candidate and not known.tried_scaling and not certificate.have_trained_weights(models):
        # it was measured on small images, and with random weights scaling only saves time
        return replace(known, setting=replace(known.setting, scaled_decode=True))
    return known


def _compiling_pays(known: TuningResult, pays_below: float) -> bool:
    """Whether the run is long enough for compiling."""
    rates = known.measured_rates()
    return rates is not None and rates["together"] < pays_below


def _is_thorough(known: TuningResult, request: TuningRequest, pays_below: float, sample: Sample) -> bool:
    """Whether a longer search would not improve the setting of this run."""
    can_scale = certificate.can_scale_decode(request.compute, request.models) and certificate.have_trained_weights(
        request.models
    )
    has_tried_scaling = known.tried_scaling or known.large_files
    if can_scale and not has_tried_scaling and certificate.have_large_files(sample(certificate.SAMPLE_IMAGES)):
        return False
    return known.tried_compiling or not (
        _compiling_pays(known, pays_below) and is_setting_applicable("compiled", request.models)
    )


def _is_ready_to_use(known: TuningResult, request: TuningRequest, cluster: Cluster, pays_below: float) -> bool:
    """Whether the run can afford to compile first; another node may have to compile again."""
    if not known.setting.compiled or _compiling_pays(known, pays_below):
        return True
    packages = [
        compiled_package_path(model, known.setting)
        for model in request.models
        if is_setting_applicable("compiled", [model])
    ]
    return cluster.local and all(path.exists() for path in packages)
