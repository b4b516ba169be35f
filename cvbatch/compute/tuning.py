"""Measure settings on images of the run, in the kind of process that will predict."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.compute.agreement import agree
from cvbatch.compute.cluster import local_cores
from cvbatch.compute.decode_stage import THREADS, DecodeOptions, fetch_and_decode
from cvbatch.compute.pieces import load_predictor, pieces, sizes_of, views_of
from cvbatch.compute.settings import REFERENCE, Setting
from cvbatch.models.spec import ModelSpec
from cvbatch.schema import OK, STATUS
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


def measure(rows: pa.Table, trial: Trial) -> list[dict[str, Any]]:
    """Measure each setting on some images.

    Args:
        rows: Rows of the plan.
        trial: The models and settings; the first setting is the reference.

    Returns:
        For each setting `{setting, images, rates, view_bytes, agreement, passed}`. Rates are images per second:
        `decode_per_core`, `predict` with all threads, and `together`, where both share the cores. Settings that scale
        while decoding are left out where no image is large enough for that.
    """
    reference = _answer(rows, trial, trial.settings[0])
    smallest = enough(trial.decode.views)
    large = smallest is not None and any(min(size) >= 2 * smallest for size in reference.sizes)
    measured = []
    for setting in (each for each in trial.settings if large or not each.scaled_decode):
        answer = reference if setting == trial.settings[0] else _answer(rows, trial, setting)
        agreement = {
            spec.alias: agree(spec, reference.columns, answer.columns, reference.sizes) for spec in trial.models
        }
        exact = setting == REFERENCE
        measured.append(
            {
                "setting": asdict(setting),
                "images": len(answer.sizes),
                "rates": _rates(answer, trial),
                "view_bytes": answer.view_bytes / max(1, len(answer.sizes)),
                "agreement": {} if exact else agreement,
                "passed": exact or all(each["passed"] for each in agreement.values()),
            }
        )
    return measured


@dataclass(slots=True)
class _Answer:
    columns: Mapping[str, pa.Array]
    sizes: list[tuple[int, int]]
    decode_seconds: float
    predict_seconds: float
    view_bytes: int


def _answer(rows: pa.Table, trial: Trial, setting: Setting) -> _Answer:
    predictor = load_predictor(trial.models, trial.device, setting.precision, trial.batch_size, trial.threads)
    options = replace(trial.decode, scaled=setting.scaled_decode)
    found, sizes, decoding, predicting = list[Mapping[str, pa.Array]](), list[tuple[int, int]](), 0.0, 0.0
    view_bytes = 0
    for table, seconds in _decoded(rows, options):
        views, here = views_of(table, options), sizes_of(table)
        decoding += seconds
        view_bytes += sum(image.nbytes for images in views.values() for image in images)
        if not found:
            predictor.predict({view: images[:_WARM_UP] for view, images in views.items()}, here[:_WARM_UP])
        started = time.perf_counter()
        found.append(predictor.predict(views, here).columns)
        predicting += time.perf_counter() - started
        sizes += here
    columns = {name: pa.concat_arrays([each[name] for each in found]) for name in (found[0] if found else ())}
    return _Answer(columns, sizes, decoding, predicting, view_bytes)


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
    predict = images / max(1e-9, answer.predict_seconds)
    if trial.device == "cpu":
        together = 1 / (1 / predict + 1 / (decode * local_cores()))
    else:
        together = min(predict, decode * local_cores())
    return {"decode_per_core": decode, "predict": predict, "together": together}
