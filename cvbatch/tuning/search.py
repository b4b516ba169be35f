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

from cvbatch.errors import RowError, attempt
from cvbatch.images.preprocess import enough
from cvbatch.inference.settings import REFERENCE, Setting
from cvbatch.models.backends import applies
from cvbatch.models.spec import ModelSpec
from cvbatch.stages.decode import THREADS
from cvbatch.system.control_group import usable_cores
from cvbatch.tuning.benchmark import Answer, Work, answers, decoded
from cvbatch.tuning.certificate import SOME, WORTH_IT, fastest, have_answers
from cvbatch.tuning.parity import agree

_NEARLY_ALL: Final = 0.99
"""Of the images must be decodable either way."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is measured."""

    work: Work
    settings: tuple[Setting, ...]
    """The reference, and others to compare with it."""
    compile_pays_below: float = 0.0
    """Networks are compiled only if the run is slower than so many images per second."""

    @property
    def has_answers(self) -> bool:
        """Whether there are answers to protect: random weights have none."""
        return have_answers(self.models)

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """What answers."""
        return self.work.models

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU predicts."""
        return self.work.device != "cpu"


def measure(rows: pa.Table, trial: Trial) -> list[dict[str, Any]]:
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
    for _ in decoded(rows, trial.work.decode, trial.work.device):
        pass  # what comes first from a cold disk would seem slow
    (reference,) = answers(rows, trial.work, trial.settings[:1])
    smallest = enough(trial.work.decode.views)
    large = smallest is not None and any(min(size) >= 2 * smallest for size in reference.sizes)
    measured = [_judged(trial.settings[0], reference, reference, trial, _rates(reference, trial))]
    for setting in trial.settings[1:]:
        if large or not setting.scaled_decode:
            measured.append(_alone(rows, setting, reference, trial))
    measured = _as_fast_at_decoding(measured, trial)
    for step in _STEPS:
        for setting in step(fastest(measured), trial):
            measured.append(_against(fastest(measured), rows, setting, reference, trial))
    return measured


def _alone(rows: pa.Table, setting: Setting, reference: Answer, trial: Trial) -> dict[str, Any]:
    """Measure a setting that changes much, also how images are decoded."""
    found = attempt("predict", lambda: answers(rows, trial.work, (setting,)))  # this torchvision may have no decoder
    if isinstance(found, RowError):
        return _failed(setting, found)
    return _judged(setting, found[0], reference, trial, _rates(found[0], trial))


def _as_fast_at_decoding(measured: Sequence[dict[str, Any]], trial: Trial) -> list[dict[str, Any]]:
    """Give settings that decode alike the best of their rates of decoding: a slower one is chance."""
    best: dict[tuple[bool, bool], float] = {}
    for each in measured:
        if each["rates"]:
            best[_decoding(each)] = max(best.get(_decoding(each), 0.0), each["rates"]["decode_per_core"])
    return [
        each | {"rates": _together(best[_decoding(each)], each["rates"]["predict"], trial) if each["rates"] else {}}
        for each in measured
    ]


def _decoding(entry: Mapping[str, Any]) -> tuple[bool, bool]:
    return entry["setting"]["scaled_decode"], entry["setting"]["device_decode"]


def _against(
    best: Mapping[str, Any], rows: pa.Table, setting: Setting, reference: Answer, trial: Trial
) -> dict[str, Any]:
    """Measure a setting in turns with the best so far, which decodes alike; if it is faster, look at its answers."""
    both = (Setting(**best["setting"]), setting)
    some = rows if trial.on_gpu else rows.slice(0, SOME)
    found = attempt("predict", lambda: answers(some, trial.work, both))  # a compiler may fail in any way
    if isinstance(found, RowError):
        return _failed(setting, found)
    before, now = found
    gain = (before.predict_seconds or 1e-9) / (now.predict_seconds or 1e-9)
    rates = _together(best["rates"]["decode_per_core"], gain * best["rates"]["predict"], trial)
    if rates["together"] <= WORTH_IT * best["rates"]["together"]:
        return _entry(setting, len(now.sizes), rates)
    if trial.has_answers and len(some) < len(rows):
        (now,) = answers(rows, trial.work, (setting,))
    return _judged(setting, now, reference, trial, rates)


def _judged(
    setting: Setting, answer: Answer, reference: Answer, trial: Trial, rates: Mapping[str, float]
) -> dict[str, Any]:
    agreement, passed = {}, True
    if setting != REFERENCE and trial.has_answers:
        both = {*answer.row_ids} & {*reference.row_ids}
        sizes = [size for row_id, size in zip(reference.row_ids, reference.sizes, strict=True) if row_id in both]
        theirs, ours = _only(reference, both), _only(answer, both)
        agreement = {spec.alias: agree(spec, theirs, ours, sizes) for spec in trial.models}
        passed = len(both) >= _NEARLY_ALL * max(len(answer.row_ids), len(reference.row_ids))
    passed = passed and all(each["passed"] for each in agreement.values())
    more = {"agreement": agreement, "passed": passed, "mean_bytes": answer.mean_bytes}
    return _entry(setting, len(answer.sizes), rates) | more


def _only(answer: Answer, row_ids: Container[int]) -> dict[str, pa.Array]:
    """Columns for some of the images, in the order of their rows."""
    wanted = pa.array([row_id in row_ids for row_id in answer.row_ids], pa.bool_())
    return {name: column.filter(wanted) for name, column in answer.columns.items()}


def _entry(setting: Setting, images: int, rates: Mapping[str, float]) -> dict[str, Any]:
    """What is told of a setting that was not held against the reference."""
    return {"setting": setting.to_json(), "images": images, "rates": rates, "agreement": {}, "passed": False}


def _failed(setting: Setting, error: RowError) -> dict[str, Any]:
    return _entry(setting, 0, {}) | {"error": f"{error.type}: {error.message}"}


def _compiled(best: Mapping[str, Any], trial: Trial) -> list[Setting]:
    if trial.on_gpu:
        # measured on an H100 with torch 2.11: loading what was compiled crashes the process, and a captured graph,
        # which launches as fast as can be, is 5 % faster than ResNet-50 as it is
        return []
    pays = best["rates"]["together"] < trial.compile_pays_below and applies("compiled", trial.models)
    # the compiler chooses the layout itself
    return [replace(Setting(**best["setting"]), compiled=True, channels_last=True)] if pays else []


def _channels_first(best: Mapping[str, Any], trial: Trial) -> list[Setting]:
    setting = Setting(**best["setting"])
    may_be_first = applies("channels_last", trial.models) and not setting.compiled
    return [replace(setting, channels_last=False)] if may_be_first else []


def _one_lane(best: Mapping[str, Any], trial: Trial) -> list[Setting]:
    more = trial.work.threads > 1 or trial.on_gpu
    return [replace(Setting(**best["setting"]), lanes=1)] if more and applies("lanes", trial.models) else []


def _padded(best: Mapping[str, Any], trial: Trial) -> list[Setting]:
    batches = trial.on_gpu or (trial.work.batch_size or 1) > 1
    return [replace(Setting(**best["setting"]), padded=True)] if batches and applies("padded", trial.models) else []


def _batch_sizes(best: Mapping[str, Any], trial: Trial) -> list[Setting]:
    if trial.work.batch_size is not None or not applies("batch_factor", trial.models):
        return []
    return [replace(Setting(**best["setting"]), batch_factor=factor) for factor in (0.5, 2.0)]


_STEPS: Final = (_channels_first, _one_lane, _compiled, _padded, _batch_sizes)


def _rates(answer: Answer, trial: Trial) -> dict[str, float]:
    images = max(1, len(answer.sizes))
    decode = images / max(1e-9, answer.decode_seconds * min(THREADS, usable_cores()))
    return _together(decode, images / max(1e-9, answer.predict_seconds), trial)


def _together(decode: float, predict: float, trial: Trial) -> dict[str, float]:
    together = rate_together(decode, predict, cores=usable_cores(), on_gpu=trial.on_gpu)
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
