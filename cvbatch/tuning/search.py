"""Measure settings on images of the run, in the kind of process that will predict.

First everything that changes answers a lot (precision, how JPEGs are decoded), each on all images; then, one after
another, what else may be faster than the best of those. That is less than what other work on the machine changes from
one minute to the next, so these are measured on some images in turns with the best, and only their ratio counts.
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
"""Of the images must be decodable either way."""


@dataclass(frozen=True, slots=True)
class BenchmarkSpec:
    """What is measured."""

    work: Workload
    settings: tuple[InferenceSettings, ...]
    """The reference, and others to compare with it."""
    compile_pays_below: float = 0.0
    """Networks are compiled only if the run is slower than so many images per second."""

    @property
    def has_trained_weights(self) -> bool:
        """Whether there are answers to protect: random weights have none."""
        return have_trained_weights(self.models)

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """What answers."""
        return self.work.models

    @property
    def uses_gpu(self) -> bool:
        """Whether a GPU predicts."""
        return self.work.device != "cpu"


def measure_settings(rows: pa.Table, trial: BenchmarkSpec) -> list[dict[str, Any]]:
    """Measure settings on some images.

    Args:
        rows: Rows of the plan.
        trial: The models and settings.

    Returns:
        For each setting `{setting, images, rates, agreement, passed}`; the first is the reference. Rates are images
        per second: `decode_per_core`, `predict` with all threads, and `together`, where both share the cores; of
        settings that were measured in turns with another, the rates of that one times how much faster they were.
        Settings that scale while decoding are left out where no image is large enough for that. One that cannot be
        built has no rates, did not pass, and tells of its `error`.
    """
    for _ in decode_rows(rows, trial.work.decode, trial.work.device):
        pass  # what comes first from a cold disk would seem slow
    (reference,) = run_benchmark(rows, trial.work, trial.settings[:1])
    smallest = compute_min_decode_side(trial.work.decode.views)
    large = smallest is not None and any(min(size) >= 2 * smallest for size in reference.sizes)
    measured = [_judge_candidate(trial.settings[0], reference, reference, trial, _rates_of_result(reference, trial))]
    for setting in trial.settings[1:]:
        if large or not setting.scaled_decode:
            measured.append(_measure_alone(rows, setting, reference, trial))
    measured = _share_decode_rates(measured, trial)
    for step in _STEPS:
        for setting in step(fastest_candidate(measured), trial):
            measured.append(_measure_against_best(fastest_candidate(measured), rows, setting, reference, trial))
    return measured


def _measure_alone(
    rows: pa.Table, setting: InferenceSettings, reference: BenchmarkResult, trial: BenchmarkSpec
) -> dict[str, Any]:
    """Measure a setting that changes much, also how images are decoded."""
    found = capture_row_error(
        "predict", lambda: run_benchmark(rows, trial.work, (setting,))
    )  # this torchvision may have no decoder
    if isinstance(found, RowError):
        return _failed_entry(setting, found)
    return _judge_candidate(setting, found[0], reference, trial, _rates_of_result(found[0], trial))


def _share_decode_rates(measured: Sequence[dict[str, Any]], trial: BenchmarkSpec) -> list[dict[str, Any]]:
    """Give settings that decode alike the best of their rates of decoding: a slower one is chance."""
    best: dict[tuple[bool, bool], float] = {}
    for each in measured:
        if each["rates"]:
            best[_decode_mode(each)] = max(best.get(_decode_mode(each), 0.0), each["rates"]["decode_per_core"])
    return [
        each
        | {"rates": _combined_rates(best[_decode_mode(each)], each["rates"]["predict"], trial) if each["rates"] else {}}
        for each in measured
    ]


def _decode_mode(entry: Mapping[str, Any]) -> tuple[bool, bool]:
    return entry["setting"]["scaled_decode"], entry["setting"]["device_decode"]


def _measure_against_best(
    best: Mapping[str, Any],
    rows: pa.Table,
    setting: InferenceSettings,
    reference: BenchmarkResult,
    trial: BenchmarkSpec,
) -> dict[str, Any]:
    """Measure a setting in turns with the best so far, which decodes alike; if it is faster, look at its answers."""
    both = (InferenceSettings(**best["setting"]), setting)
    some = rows if trial.uses_gpu else rows.slice(0, COMPARED_IMAGES)
    found = capture_row_error(
        "predict", lambda: run_benchmark(some, trial.work, both)
    )  # a compiler may fail in any way
    if isinstance(found, RowError):
        return _failed_entry(setting, found)
    before, now = found
    gain = (before.predict_seconds or 1e-9) / (now.predict_seconds or 1e-9)
    rates = _combined_rates(best["rates"]["decode_per_core"], gain * best["rates"]["predict"], trial)
    if rates["together"] <= MIN_SPEEDUP * best["rates"]["together"]:
        return _candidate_entry(setting, len(now.sizes), rates)
    if trial.has_trained_weights and len(some) < len(rows):
        (now,) = run_benchmark(rows, trial.work, (setting,))
    return _judge_candidate(setting, now, reference, trial, rates)


def _judge_candidate(
    setting: InferenceSettings,
    answer: BenchmarkResult,
    reference: BenchmarkResult,
    trial: BenchmarkSpec,
    rates: Mapping[str, float],
) -> dict[str, Any]:
    agreement, passed = {}, True
    if setting != REFERENCE and trial.has_trained_weights:
        both = {*answer.row_ids} & {*reference.row_ids}
        sizes = [size for row_id, size in zip(reference.row_ids, reference.sizes, strict=True) if row_id in both]
        theirs, ours = _columns_of_rows(reference, both), _columns_of_rows(answer, both)
        agreement = {spec.alias: compare_answers(spec, theirs, ours, sizes) for spec in trial.models}
        passed = len(both) >= _NEARLY_ALL * max(len(answer.row_ids), len(reference.row_ids))
    passed = passed and all(each["passed"] for each in agreement.values())
    more = {"agreement": agreement, "passed": passed, "mean_bytes": answer.mean_bytes}
    return _candidate_entry(setting, len(answer.sizes), rates) | more


def _columns_of_rows(answer: BenchmarkResult, row_ids: Container[int]) -> dict[str, pa.Array]:
    """Columns for some of the images, in the order of their rows."""
    wanted = pa.array([row_id in row_ids for row_id in answer.row_ids], pa.bool_())
    return {name: column.filter(wanted) for name, column in answer.columns.items()}


def _candidate_entry(setting: InferenceSettings, images: int, rates: Mapping[str, float]) -> dict[str, Any]:
    """What is told of a setting that was not held against the reference."""
    return {"setting": setting.to_json(), "images": images, "rates": rates, "agreement": {}, "passed": False}


def _failed_entry(setting: InferenceSettings, error: RowError) -> dict[str, Any]:
    return _candidate_entry(setting, 0, {}) | {"error": f"{error.type}: {error.message}"}


def _try_compiled(best: Mapping[str, Any], trial: BenchmarkSpec) -> list[InferenceSettings]:
    if trial.uses_gpu:
        # measured on an H100 with torch 2.11: loading what was compiled crashes the process, and a captured graph,
        # which launches as fast as can be, is 5 % faster than ResNet-50 as it is
        return []
    pays = best["rates"]["together"] < trial.compile_pays_below and is_setting_applicable("compiled", trial.models)
    # the compiler chooses the layout itself
    return [replace(InferenceSettings(**best["setting"]), compiled=True, channels_last=True)] if pays else []


def _try_channels_first(best: Mapping[str, Any], trial: BenchmarkSpec) -> list[InferenceSettings]:
    setting = InferenceSettings(**best["setting"])
    may_be_first = is_setting_applicable("channels_last", trial.models) and not setting.compiled
    return [replace(setting, channels_last=False)] if may_be_first else []


def _try_single_lane(best: Mapping[str, Any], trial: BenchmarkSpec) -> list[InferenceSettings]:
    more = trial.work.threads > 1 or trial.uses_gpu
    return (
        [replace(InferenceSettings(**best["setting"]), lanes=1)]
        if more and is_setting_applicable("lanes", trial.models)
        else []
    )


def _try_padded(best: Mapping[str, Any], trial: BenchmarkSpec) -> list[InferenceSettings]:
    batches = trial.uses_gpu or (trial.work.batch_size or 1) > 1
    return (
        [replace(InferenceSettings(**best["setting"]), padded=True)]
        if batches and is_setting_applicable("padded", trial.models)
        else []
    )


def _try_batch_sizes(best: Mapping[str, Any], trial: BenchmarkSpec) -> list[InferenceSettings]:
    if trial.work.batch_size is not None or not is_setting_applicable("batch_factor", trial.models):
        return []
    return [replace(InferenceSettings(**best["setting"]), batch_factor=factor) for factor in (0.5, 2.0)]


_STEPS: Final = (_try_channels_first, _try_single_lane, _try_compiled, _try_padded, _try_batch_sizes)


def _rates_of_result(answer: BenchmarkResult, trial: BenchmarkSpec) -> dict[str, float]:
    images = max(1, len(answer.sizes))
    decode = images / max(1e-9, answer.decode_seconds * min(DECODE_THREADS, usable_cores()))
    return _combined_rates(decode, images / max(1e-9, answer.predict_seconds), trial)


def _combined_rates(decode: float, predict: float, trial: BenchmarkSpec) -> dict[str, float]:
    together = rate_together(decode, predict, cores=usable_cores(), on_gpu=trial.uses_gpu)
    return {"decode_per_core": decode, "predict": predict, "together": together}


def rate_together(decode: float, predict: float, *, cores: int, on_gpu: bool) -> float:
    """Images per second of a run that decodes and predicts at once.

    Where both share the cores, times per image add up; a GPU works beside them.

    Args:
        decode: Images per second and core.
        predict: Images per second with the GPU or all cores.
        cores: How many there are.
        on_gpu: Whether a GPU predicts.
    """
    return min(predict, decode * cores) if on_gpu else 1 / (1 / predict + 1 / (decode * cores))
