"""Answer for images of the run with some settings, and take the time: what a search compares."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from cvbatch.inference.settings import InferenceSettings
from cvbatch.models.spec import ModelSpec
from cvbatch.schema import IMAGE_BYTES, OK, ROW_ID, STATUS
from cvbatch.stages.decode import DecodeOptions, fetch_and_decode
from cvbatch.stages.predict import CONCURRENT_UNITS
from cvbatch.stages.unit_split import PredictorBatch, load_decoder, load_predictor, split_unit
from cvbatch.stages.weight_files import WEIGHTS_IN_PLACE, WeightFiles

if TYPE_CHECKING:
    from cvbatch.inference.predictor import Predictor

_WARM_UP: Final = 8
_ROWS_AT_ONCE: Final = {"cpu": 32, "cuda": 512}
_TIMES: Final = {"cpu": 1, "cuda": 12}
"""A GPU is through with a unit in a twentieth of a second, too little to tell settings apart."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Who answers."""

    models: tuple[ModelSpec, ...]
    decode: DecodeOptions
    device: str
    threads: int
    batch_size: int | None
    files: WeightFiles = WEIGHTS_IN_PLACE


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """What was found, and how long it took."""

    columns: Mapping[str, pa.Array]
    """One value for each image that could be decoded, in the order of their rows."""
    row_ids: Sequence[int]
    """Of these images; what one way of decoding takes another may refuse."""
    sizes: Sequence[tuple[int, int]]
    """(width, height) of each oriented original."""
    mean_bytes: float
    """Of the encoded files."""
    decode_seconds: float
    predict_seconds: float
    """With all threads, or as many units at once as a GPU gets; with decoding where the device does that."""


def run_benchmark(rows: pa.Table, work: Workload, settings: Sequence[InferenceSettings]) -> list[BenchmarkResult]:
    """Answer with each of some settings, which take turns every few images; all decode like the first.

    Args:
        rows: Of the plan.
        work: Who answers.
        settings: How.
    """
    models = work.files.fetch_local(work.models)
    load = partial(load_predictor, models, work.device, batch_size=work.batch_size, threads=work.threads)
    predictors = [load(setting=setting) for setting in settings]
    found: list[list[_BatchResult]] = [[] for _ in settings]
    predicting, decoding = [0.0] * len(settings), 0.0
    with ThreadPoolExecutor(CONCURRENT_UNITS[work.device]) as callers:
        for number, (unit, seconds) in enumerate(
            decode_rows(rows, work.decode.with_settings(settings[0]), work.device)
        ):
            decoding += seconds
            for at in sorted(range(len(settings)), reverse=number % 2 == 1):
                predict = partial(_predict_batches, unit, predictors[at])
                if number == 0 and work.device == "cpu":
                    # a compiled network folds its constants in each thread that calls it first, so all of them have to
                    predict(None if settings[at].compiled else _WARM_UP)
                elif number == 0:
                    _time_predictions(
                        predict, callers, _TIMES[work.device]
                    )  # cuDNN plans for each thread and size of batch
                each, seconds = _time_predictions(predict, callers, _TIMES[work.device])
                found[at] += each
                predicting[at] += seconds
    return [_join_results(each, decoding, seconds) for each, seconds in zip(found, predicting, strict=True)]


def decode_rows(
    rows: pa.Table, options: DecodeOptions, device: str
) -> Iterator[tuple[Callable[[], Iterable[PredictorBatch]], float]]:
    """What gives some images at a time, and how long that has taken; what the device decodes comes when called."""
    decoder = load_decoder(options, device)
    for start in range(0, rows.num_rows, _ROWS_AT_ONCE[device]):
        started = time.perf_counter()
        unit = fetch_and_decode(rows.slice(start, _ROWS_AT_ONCE[device]), options)
        if decoder is not None:
            yield partial(split_unit, unit, options, decoder), time.perf_counter() - started
            continue
        for piece in split_unit(unit, options):
            yield partial(_single_batch, piece), time.perf_counter() - started
            started = time.perf_counter()


def _single_batch(piece: PredictorBatch) -> Iterable[PredictorBatch]:
    return (piece,)


@dataclass(frozen=True, slots=True)
class _BatchResult:
    columns: Mapping[str, pa.Array]
    sizes: Sequence[tuple[int, int]]
    row_ids: Sequence[int]
    image_bytes: Sequence[int]


def _predict_batches(
    unit: Callable[[], Iterable[PredictorBatch]], predictor: Predictor, some: int | None = None
) -> list[_BatchResult]:
    found = []
    for piece in unit():
        good = np.flatnonzero([status == OK for status in piece.table[STATUS].to_pylist()])[:some]
        if not len(good):
            continue
        views = {view: [images[at] for at in good] for view, images in piece.views.items()}
        sizes = [piece.sizes[at] for at in good]
        columns = predictor.predict_views(views, sizes).columns
        kept = piece.table.take(pa.array(good))
        found.append(_BatchResult(columns, sizes, kept[ROW_ID].to_pylist(), kept[IMAGE_BYTES].to_pylist()))
    return found


def _time_predictions(
    work: Callable[[], list[_BatchResult]], callers: ThreadPoolExecutor, times: int
) -> tuple[list[_BatchResult], float]:
    started = time.perf_counter()
    found = list(callers.map(lambda _: work(), range(times)))
    return found[0], (time.perf_counter() - started) / times


def _join_results(found: Sequence[_BatchResult], decoding: float, predicting: float) -> BenchmarkResult:
    row_ids = [row_id for each in found for row_id in each.row_ids]
    order = np.argsort(row_ids, kind="stable")
    mean_bytes = float(np.mean([size for each in found for size in each.image_bytes] or [0]))
    sizes = [size for each in found for size in each.sizes]
    names = found[0].columns if found else ()
    columns = {name: pa.concat_arrays([each.columns[name] for each in found]).take(pa.array(order)) for name in names}
    in_order = [row_ids[at] for at in order], [sizes[at] for at in order]
    return BenchmarkResult(columns, *in_order, mean_bytes, decoding, predicting)
