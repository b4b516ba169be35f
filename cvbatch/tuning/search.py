"""Measure settings on images of the run, in a process like those that predict.

First come the choices that change answers (precision, JPEG decoding), each measured on all images. Other options follow
one by one, on top of the best of these. Their gain is smaller than the noise of a busy machine, so each takes turns
with the best setting on some images, and only the ratio of their times counts.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa

from cvbatch.errors import RowError, capture_row_error
from cvbatch.images.preprocess import compute_min_decode_side
from cvbatch.inference.settings import REFERENCE, InferenceSettings
from cvbatch.models.backends import is_setting_applicable
from cvbatch.models.spec import ModelSpec
from cvbatch.stages.decode import DECODE_THREADS
from cvbatch.system.control_group import usable_cores
from cvbatch.tuning.benchmark import BenchmarkResult, Workload, decode_rows, run_benchmark
from cvbatch.tuning.certificate import COMPARED_IMAGES, MIN_SPEEDUP, fastest_candidate, have_trained_weights
from cvbatch.tuning.parity import compare_answers

_NEARLY_ALL: Final = 0.99
"""Minimum share of the images that must be decodable with both settings."""


@dataclass(frozen=True, slots=True)
class BenchmarkSpec:
    """Workload and settings of a search."""

    workload: Workload
    settings: tuple[InferenceSettings, ...]
    """The reference, followed by the settings to compare with it."""
    compile_pays_below: float = 0.0
    """Networks are compiled only if the run is slower than this many images per second."""

    @property
    def has_trained_weights(self) -> bool:
        """Whether the answers must be compared; see `have_trained_weights`."""
        return have_trained_weights(self.models)

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """Models of the workload."""
        return self.workload.models

    @property
    def uses_gpu(self) -> bool:
        """Whether a GPU predicts."""
        return self.workload.device != "cpu"


def measure_settings(rows: pa.Table, spec: BenchmarkSpec) -> list[dict[str, Any]]:
    """Measure settings on images of the run.

    Args:
        rows: Rows of the plan.
        spec: Workload and settings.

    Returns:
        For each setting `{setting, images, rates, agreement, passed}`; the first is the reference. Rates are images
        per second: `decode_per_core`, `predict` with all threads, and `together`, where both share the cores. The
        rates of a setting that took turns with another one are the other's rates times the measured speedup. Scaled
        decoding is skipped where no image is large enough. A setting that cannot be built has no rates, `passed` is
        false, and `error` says why.
    """
    for _ in decode_rows(rows, spec.workload.decode, spec.workload.device):
        pass  # warms the disk cache: otherwise the first setting would seem slow
    (reference,) = run_benchmark(rows, spec.workload, spec.settings[:1])
    min_decode_side = compute_min_decode_side(spec.workload.decode.views)
    has_large_images = min_decode_side is not None and any(min(size) >= 2 * min_decode_side for size in reference.sizes)
    measured = [_judge_candidate(spec.settings[0], reference, reference, spec, _rates_of_result(reference, spec))]
    for setting in spec.settings[1:]:
        if has_large_images or not setting.scaled_decode:
            measured.append(_measure_alone(rows, setting, reference, spec))
    measured = _share_decode_rates(measured, spec)
    for step in _STEPS:
        for setting in step(fastest_candidate(measured), spec):
            measured.append(_measure_against_best(fastest_candidate(measured), rows, setting, reference, spec))
    return measured


def _measure_alone(
    rows: pa.Table, setting: InferenceSettings, reference: BenchmarkResult, spec: BenchmarkSpec
) -> dict[str, Any]:
    """Measure a setting on its own, as it may decode differently."""
    result = capture_row_error(
        "predict", lambda: run_benchmark(rows, spec.workload, (setting,))
    )  # this torchvision may have no decoder
    if isinstance(result, RowError):
        return _failed_entry(setting, result)
    return _judge_candidate(setting, result[0], reference, spec, _rates_of_result(result[0], spec))


def _share_decode_rates(measured: Sequence[dict[str, Any]], spec: BenchmarkSpec) -> list[dict[str, Any]]:
    """Give settings with the same decode mode the best of their decode rates: slower ones are noise."""
    best_rates: dict[tuple[bool, bool], float] = {}
    for entry in measured:
        if entry["rates"]:
            best_rates[_decode_mode(entry)] = max(
                best_rates.get(_decode_mode(entry), 0.0), entry["rates"]["decode_per_core"]
            )
    return [
        entry
        | {
            "rates": _combined_rates(best_rates[_decode_mode(entry)], entry["rates"]["predict"], spec)
            if entry["rates"]
            else {}
        }
        for entry in measured
    ]


def _decode_mode(entry: Mapping[str, Any]) -> tuple[bool, bool]:
    return entry["setting"]["scaled_decode"], entry["setting"]["device_decode"]


def _measure_against_best(
    best: Mapping[str, Any],
    rows: pa.Table,
    setting: InferenceSettings,
    reference: BenchmarkResult,
    spec: BenchmarkSpec,
) -> dict[str, Any]:
    """Measure a setting in turns with the best so far, which decodes alike; compare its answers if it is faster."""
    settings = (InferenceSettings(**best["setting"]), setting)
    compared_rows = rows if spec.uses_gpu else rows.slice(0, COMPARED_IMAGES)
    results = capture_row_error(
        "predict", lambda: run_benchmark(compared_rows, spec.workload, settings)
    )  # a compiler may fail in any way
    if isinstance(results, RowError):
        return _failed_entry(setting, results)
    best_result, result = results
    speedup = (best_result.predict_seconds or 1e-9) / (result.predict_seconds or 1e-9)
    rates = _combined_rates(best["rates"]["decode_per_core"], speedup * best["rates"]["predict"], spec)
    if rates["together"] <= MIN_SPEEDUP * best["rates"]["together"]:
        return _candidate_entry(setting, len(result.sizes), rates)
    if spec.has_trained_weights and len(compared_rows) < len(rows):
        (result,) = run_benchmark(rows, spec.workload, (setting,))
    return _judge_candidate(setting, result, reference, spec, rates)


def _judge_candidate(
    setting: InferenceSettings,
    result: BenchmarkResult,
    reference: BenchmarkResult,
    spec: BenchmarkSpec,
    rates: Mapping[str, float],
) -> dict[str, Any]:
    agreement, passed = {}, True
    if setting != REFERENCE and spec.has_trained_weights:
        common_ids = {*result.row_ids} & {*reference.row_ids}
        sizes = [size for row_id, size in zip(reference.row_ids, reference.sizes, strict=True) if row_id in common_ids]
        reference_columns, columns = _columns_of_rows(reference, common_ids), _columns_of_rows(result, common_ids)
        agreement = {model.alias: compare_answers(model, reference_columns, columns, sizes) for model in spec.models}
        passed = len(common_ids) >= _NEARLY_ALL * max(len(result.row_ids), len(reference.row_ids))
    passed = passed and all(model_agreement["passed"] for model_agreement in agreement.values())
    details = {"agreement": agreement, "passed": passed, "mean_bytes": result.mean_bytes}
    return _candidate_entry(setting, len(result.sizes), rates) | details


def _columns_of_rows(result: BenchmarkResult, row_ids: Container[int]) -> dict[str, pa.Array]:
    """Return the columns of the images with the given row ids, in the order of the rows."""
    is_wanted = pa.array([row_id in row_ids for row_id in result.row_ids], pa.bool_())
    return {name: column.filter(is_wanted) for name, column in result.columns.items()}


def _candidate_entry(setting: InferenceSettings, images: int, rates: Mapping[str, float]) -> dict[str, Any]:
    """Return the entry of a setting that was not compared with the reference."""
    return {"setting": setting.to_json(), "images": images, "rates": rates, "agreement": {}, "passed": False}


def _failed_entry(setting: InferenceSettings, error: RowError) -> dict[str, Any]:
    return _candidate_entry(setting, 0, {}) | {"error": f"{error.type}: {error.message}"}


def _try_compiled(best: Mapping[str, Any], spec: BenchmarkSpec) -> list[InferenceSettings]:
    if spec.uses_gpu:
        # loading a compiled network crashes the process (H100, torch 2.11), and even a captured graph, without launch
        # overhead, gains only 5 % with ResNet-50
        return []
    is_worthwhile = best["rates"]["together"] < spec.compile_pays_below and is_setting_applicable(
        "compiled", spec.models
    )
    # the compiler chooses the memory layout
    return [replace(InferenceSettings(**best["setting"]), compiled=True, channels_last=True)] if is_worthwhile else []


def _try_channels_first(best: Mapping[str, Any], spec: BenchmarkSpec) -> list[InferenceSettings]:
    setting = InferenceSettings(**best["setting"])
    may_be_first = is_setting_applicable("channels_last", spec.models) and not setting.compiled
    return [replace(setting, channels_last=False)] if may_be_first else []


def _try_single_lane(best: Mapping[str, Any], spec: BenchmarkSpec) -> list[InferenceSettings]:
    has_lanes = spec.workload.threads > 1 or spec.uses_gpu
    return (
        [replace(InferenceSettings(**best["setting"]), lanes=1)]
        if has_lanes and is_setting_applicable("lanes", spec.models)
        else []
    )


def _try_padded(best: Mapping[str, Any], spec: BenchmarkSpec) -> list[InferenceSettings]:
    has_batches = spec.uses_gpu or (spec.workload.batch_size or 1) > 1
    return (
        [replace(InferenceSettings(**best["setting"]), padded=True)]
        if has_batches and is_setting_applicable("padded", spec.models)
        else []
    )


def _try_batch_sizes(best: Mapping[str, Any], spec: BenchmarkSpec) -> list[InferenceSettings]:
    if spec.workload.batch_size is not None or not is_setting_applicable("batch_factor", spec.models):
        return []
    return [replace(InferenceSettings(**best["setting"]), batch_factor=factor) for factor in (0.5, 2.0)]


_STEPS: Final = (_try_channels_first, _try_single_lane, _try_compiled, _try_padded, _try_batch_sizes)


def _rates_of_result(result: BenchmarkResult, spec: BenchmarkSpec) -> dict[str, float]:
    images = max(1, len(result.sizes))
    decode = images / max(1e-9, result.decode_seconds * min(DECODE_THREADS, usable_cores()))
    return _combined_rates(decode, images / max(1e-9, result.predict_seconds), spec)


def _combined_rates(decode: float, predict: float, spec: BenchmarkSpec) -> dict[str, float]:
    together = rate_together(decode, predict, cores=usable_cores(), on_gpu=spec.uses_gpu)
    return {"decode_per_core": decode, "predict": predict, "together": together}


def rate_together(decode: float, predict: float, *, cores: int, on_gpu: bool) -> float:
    """Return the images per second of a run that decodes and predicts at once.

    On a CPU both share the cores, and their times per image add up; a GPU predicts in parallel with decoding.

    Args:
        decode: Images per second and core.
        predict: Images per second with the GPU or all cores.
        cores: Number of cores.
        on_gpu: Whether a GPU predicts.
    """
    return min(predict, decode * cores) if on_gpu else 1 / (1 / predict + 1 / (decode * cores))
