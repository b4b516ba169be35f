"""Measure settings on images of the run, in the kind of process that will predict.

First everything that changes answers a lot (precision, scaled decoding), each on all images; then, one after another,
what else may be faster than the best of those. That is less than what other work on the machine changes from one minute
to the next, so these are measured on some images in turns with the best, and only their ratio counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.compute.agreement import agree
from cvbatch.compute.cluster import local_cores
from cvbatch.compute.decode_stage import THREADS, DecodeOptions, fetch_and_decode
from cvbatch.compute.files import NO_FILES, WeightFiles
from cvbatch.compute.pieces import load_predictor, pieces, sizes_of, views_of
from cvbatch.compute.settings import SOME, WORTH_IT, decide_themselves, fastest
from cvbatch.errors import RowError, attempt
from cvbatch.models.packages import compilable
from cvbatch.models.spec import ModelSpec
from cvbatch.schema import OK, STATUS
from cvbatch.setting import REFERENCE, Setting
from cvbatch.views import enough

_ROWS_AT_ONCE: Final = 32
_WARM_UP: Final = 8


@dataclass(frozen=True, slots=True)
class Trial:
    """What is measured."""

    models: tuple[ModelSpec, ...]
    decode: DecodeOptions
    device: str
    threads: int
    batch_size: int | None
    settings: tuple[Setting, ...]
    """The reference, and others to compare with it."""
    compile_pays_below: float = 0.0
    """Networks are compiled only if the run is slower than so many images per second."""
    files: WeightFiles = NO_FILES

    @property
    def has_answers(self) -> bool:
        """Whether there are answers to protect: random weights have none."""
        return not all(model.random for model in self.models)


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
    for _ in _decoded(rows, trial.decode):
        pass  # what comes first from a cold disk would seem slow
    reference = _answer(rows, trial, trial.settings[0])
    smallest = enough(trial.decode.views)
    large = smallest is not None and any(min(size) >= 2 * smallest for size in reference.sizes)
    measured = [_judged(trial.settings[0], reference, reference, trial, _rates(reference, trial))]
    for setting in trial.settings[1:]:
        if large or not setting.scaled_decode:
            answer = _answer(rows, trial, setting)
            measured.append(_judged(setting, answer, reference, trial, _rates(answer, trial)))
    for step in _STEPS:
        for setting in step(fastest(measured), trial):
            measured.append(_against(fastest(measured), rows, setting, reference, trial))
    return measured


def _against(
    best: Mapping[str, Any], rows: pa.Table, setting: Setting, reference: _Answer, trial: Trial
) -> dict[str, Any]:
    """Measure a setting in turns with the best so far, which decodes alike; if it is faster, look at its answers."""
    both = (Setting(**best["setting"]), setting)
    found = attempt("predict", lambda: _in_turns(rows.slice(0, SOME), trial, both))  # a compiler may fail in any way
    if isinstance(found, RowError):
        return _entry(setting, 0, {}) | {"error": f"{found.type}: {found.message}"}
    before, now = found
    gain = (before.predict_seconds or 1e-9) / (now.predict_seconds or 1e-9)
    rates = _together(best["rates"]["decode_per_core"], gain * best["rates"]["predict"], trial)
    if rates["together"] <= WORTH_IT * best["rates"]["together"]:
        return _entry(setting, len(now.sizes), rates)
    if trial.has_answers:
        now = _answer(rows, trial, setting)
    return _judged(setting, now, reference, trial, rates)


def _judged(
    setting: Setting, answer: _Answer, reference: _Answer, trial: Trial, rates: Mapping[str, float]
) -> dict[str, Any]:
    agreement = {}
    if setting != REFERENCE and trial.has_answers:
        agreement = {
            spec.alias: agree(spec, reference.columns, answer.columns, reference.sizes) for spec in trial.models
        }
    passed = all(each["passed"] for each in agreement.values())
    return _entry(setting, len(answer.sizes), rates) | {"agreement": agreement, "passed": passed}


def _entry(setting: Setting, images: int, rates: Mapping[str, float]) -> dict[str, Any]:
    """What is told of a setting that was not held against the reference."""
    return {"setting": asdict(setting), "images": images, "rates": rates, "agreement": {}, "passed": False}


def _compiled(best: Mapping[str, Any], trial: Trial) -> list[Setting]:
    pays = best["rates"]["together"] < trial.compile_pays_below and any(map(compilable, trial.models))
    # the compiler chooses the layout itself
    return [replace(Setting(**best["setting"]), compiled=True, channels_last=True)] if pays else []


def _channels_first(best: Mapping[str, Any], trial: Trial) -> list[Setting]:
    setting = Setting(**best["setting"])
    return [] if setting.compiled or decide_themselves(trial.models) else [replace(setting, channels_last=False)]


def _one_lane(best: Mapping[str, Any], trial: Trial) -> list[Setting]:
    more = trial.threads > 1 or trial.device != "cpu"
    return [replace(Setting(**best["setting"]), lanes=1)] if more and not decide_themselves(trial.models) else []


def _padded(best: Mapping[str, Any], trial: Trial) -> list[Setting]:
    batches = trial.device != "cpu" or (trial.batch_size or 1) > 1
    detects = any(model.task == "detection" and model.kind == "torchvision" for model in trial.models)
    return [replace(Setting(**best["setting"]), padded=True)] if batches and detects else []


def _batch_sizes(best: Mapping[str, Any], trial: Trial) -> list[Setting]:
    if trial.batch_size is not None or decide_themselves(trial.models):
        return []
    return [replace(Setting(**best["setting"]), batch_factor=factor) for factor in (0.5, 2.0)]


_STEPS: Final = (_channels_first, _one_lane, _compiled, _padded, _batch_sizes)


@dataclass(slots=True)
class _Answer:
    columns: Mapping[str, pa.Array]
    sizes: list[tuple[int, int]]
    decode_seconds: float
    predict_seconds: float


def _answer(rows: pa.Table, trial: Trial, setting: Setting) -> _Answer:
    return _in_turns(rows, trial, (setting,))[0]


def _in_turns(rows: pa.Table, trial: Trial, settings: Sequence[Setting]) -> list[_Answer]:
    """Answer with each of some settings, which take turns every few images; all decode like the first."""
    models, sizes, decoding = trial.files.here(trial.models), list[tuple[int, int]](), 0.0
    load = partial(load_predictor, models, trial.device, batch_size=trial.batch_size, threads=trial.threads)
    predictors = [load(setting=setting) for setting in settings]
    found: list[list[Mapping[str, pa.Array]]] = [[] for _ in settings]
    predicting = [0.0] * len(settings)
    options = replace(trial.decode, scaled=settings[0].scaled_decode)
    for number, (table, seconds) in enumerate(_decoded(rows, options)):
        views, here = views_of(table, options), sizes_of(table)
        decoding += seconds
        sizes += here
        for at in sorted(range(len(settings)), reverse=number % 2 == 1):
            if number == 0:
                # a compiled network folds its constants in each thread that calls it first, so all of them have to
                some = None if settings[at].compiled else _WARM_UP
                predictors[at].predict({view: images[:some] for view, images in views.items()}, here[:some])
            started = time.perf_counter()
            found[at].append(predictors[at].predict(views, here).columns)
            predicting[at] += time.perf_counter() - started
    return [_Answer(_joined(columns), sizes, decoding, spent) for columns, spent in zip(found, predicting, strict=True)]


def _joined(found: Sequence[Mapping[str, pa.Array]]) -> dict[str, pa.Array]:
    return {name: pa.concat_arrays([each[name] for each in found]) for name in (found[0] if found else ())}


def _decoded(rows: pa.Table, options: DecodeOptions) -> Iterator[tuple[pa.Table, float]]:
    """Images that can be decoded, some at a time, and how long that took."""
    for start in range(0, rows.num_rows, _ROWS_AT_ONCE):
        started = time.perf_counter()
        unit = fetch_and_decode(rows.slice(start, _ROWS_AT_ONCE), options)
        for piece in pieces(unit, options):
            seconds = time.perf_counter() - started
            good = piece.filter(pc.equal(piece[STATUS], OK))
            if good.num_rows:
                yield good, seconds
            started = time.perf_counter()


def _rates(answer: _Answer, trial: Trial) -> dict[str, float]:
    images = max(1, len(answer.sizes))
    decode = images / max(1e-9, answer.decode_seconds * min(THREADS, local_cores()))
    return _together(decode, images / max(1e-9, answer.predict_seconds), trial)


def _together(decode: float, predict: float, trial: Trial) -> dict[str, float]:
    together = rate_together(decode, predict, cores=local_cores(), on_gpu=trial.device != "cpu")
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
