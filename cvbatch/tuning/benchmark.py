"""Predict images of the run with several settings and measure the time."""

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
from cvbatch.stages.unit_predictor import PredictorBatch, load_decoder, load_predictor, split_unit
from cvbatch.stages.weight_files import WEIGHTS_IN_PLACE, WeightFiles

if TYPE_CHECKING:
    from cvbatch.inference.predictor import Predictor

_WARM_UP: Final = 8
_ROWS_AT_ONCE: Final = {"cpu": 32, "cuda": 512}
_TIMES: Final = {"cpu": 1, "cuda": 12}
"""Repetitions of each unit: a GPU needs 50 ms for one, too little to compare settings."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Models and resources of a benchmark."""

    models: tuple[ModelSpec, ...]
    decode: DecodeOptions
    device: str
    threads: int
    batch_size: int | None
    weight_files: WeightFiles = WEIGHTS_IN_PLACE


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """Predictions and times of one setting."""

    columns: Mapping[str, pa.Array]
    """One value per decoded image, in the order of the rows."""
    row_ids: Sequence[int]
    """Of these images; another way of decoding may decode other images."""
    sizes: Sequence[tuple[int, int]]
    """(width, height) of each oriented original."""
    mean_bytes: float
    """Of the encoded files."""
    decode_seconds: float
    predict_seconds: float
    """With all threads, or with a GPU's usual number of concurrent units; includes decoding on the device."""


def run_benchmark(rows: pa.Table, workload: Workload, settings: Sequence[InferenceSettings]) -> list[BenchmarkResult]:
    """Predict with several settings, which take turns every few images.

    Args:
        rows: Rows of the plan.
        workload: Models and resources.
        settings: Settings to measure; all decode like the first.
    """
    models = workload.weight_files.fetch_local(workload.models)
    load = partial(load_predictor, models, workload.device, batch_size=workload.batch_size, threads=workload.threads)
    predictors = [load(setting=setting) for setting in settings]
    results: list[list[_BatchResult]] = [[] for _ in settings]
    predicting, decoding = [0.0] * len(settings), 0.0
    with ThreadPoolExecutor(CONCURRENT_UNITS[workload.device]) as callers:
        for unit_index, (unit, seconds) in enumerate(
            decode_rows(rows, workload.decode.with_settings(settings[0]), workload.device)
        ):
            decoding += seconds
            for index in sorted(range(len(settings)), reverse=unit_index % 2 == 1):
                predict = partial(_predict_batches, unit, predictors[index])
                if unit_index == 0 and workload.device == "cpu":
                    # each thread folds the constants of a compiled network at its first call, so all must run once
                    predict(None if settings[index].compiled else _WARM_UP)
                elif unit_index == 0:
                    # cuDNN plans once per thread and batch size
                    _time_predictions(predict, callers, _TIMES[workload.device])
                batch_results, seconds = _time_predictions(predict, callers, _TIMES[workload.device])
                results[index] += batch_results
                predicting[index] += seconds
    return [
        _join_results(batch_results, decoding, seconds)
        for batch_results, seconds in zip(results, predicting, strict=True)
    ]


def decode_rows(
    rows: pa.Table, options: DecodeOptions, device: str
) -> Iterator[tuple[Callable[[], Iterable[PredictorBatch]], float]]:
    """Yield functions that return the batches of a unit, with the decode seconds so far.

    Images that the device decodes are decoded in the call of the function.
    """
    decoder = load_decoder(options, device)
    for start in range(0, rows.num_rows, _ROWS_AT_ONCE[device]):
        started = time.perf_counter()
        unit = fetch_and_decode(rows.slice(start, _ROWS_AT_ONCE[device]), options)
        if decoder is not None:
            yield partial(split_unit, unit, options, decoder), time.perf_counter() - started
            continue
        for batch in split_unit(unit, options):
            yield partial(_single_batch, batch), time.perf_counter() - started
            started = time.perf_counter()


def _single_batch(batch: PredictorBatch) -> Iterable[PredictorBatch]:
    return (batch,)


@dataclass(frozen=True, slots=True)
class _BatchResult:
    columns: Mapping[str, pa.Array]
    sizes: Sequence[tuple[int, int]]
    row_ids: Sequence[int]
    image_bytes: Sequence[int]


def _predict_batches(
    unit: Callable[[], Iterable[PredictorBatch]], predictor: Predictor, max_images: int | None = None
) -> list[_BatchResult]:
    results = []
    for batch in unit():
        positions = np.flatnonzero([status == OK for status in batch.table[STATUS].to_pylist()])[:max_images]
        if not len(positions):
            continue
        views = {view: [images[position] for position in positions] for view, images in batch.views.items()}
        sizes = [batch.sizes[position] for position in positions]
        columns = predictor.predict_views(views, sizes).columns
        predicted_rows = batch.table.take(pa.array(positions))
        results.append(
            _BatchResult(columns, sizes, predicted_rows[ROW_ID].to_pylist(), predicted_rows[IMAGE_BYTES].to_pylist())
        )
    return results


def _time_predictions(
    predict: Callable[[], list[_BatchResult]], callers: ThreadPoolExecutor, repetitions: int
) -> tuple[list[_BatchResult], float]:
    started = time.perf_counter()
    results = list(callers.map(lambda _: predict(), range(repetitions)))
    return results[0], (time.perf_counter() - started) / repetitions


def _join_results(batch_results: Sequence[_BatchResult], decoding: float, predicting: float) -> BenchmarkResult:
    row_ids = [row_id for result in batch_results for row_id in result.row_ids]
    order = np.argsort(row_ids, kind="stable")
    mean_bytes = float(np.mean([size for result in batch_results for size in result.image_bytes] or [0]))
    sizes = [size for result in batch_results for size in result.sizes]
    names = batch_results[0].columns if batch_results else ()
    columns = {
        name: pa.concat_arrays([result.columns[name] for result in batch_results]).take(pa.array(order))
        for name in names
    }
    in_order = [row_ids[index] for index in order], [sizes[index] for index in order]
    return BenchmarkResult(columns, *in_order, mean_bytes, decoding, predicting)
