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

from cvbatch.inference.settings import Setting
from cvbatch.models.spec import ModelSpec
from cvbatch.schema import IMAGE_BYTES, OK, ROW_ID, STATUS
from cvbatch.stages.decode import DecodeOptions, fetch_and_decode
from cvbatch.stages.predict import UNITS_AT_ONCE
from cvbatch.stages.unit_split import Piece, load_decoder, load_predictor, pieces
from cvbatch.stages.weight_files import WEIGHTS_IN_PLACE, WeightFiles

if TYPE_CHECKING:
    from cvbatch.inference.predictor import Predictor

_WARM_UP: Final = 8
_ROWS_AT_ONCE: Final = {"cpu": 32, "cuda": 512}
_TIMES: Final = {"cpu": 1, "cuda": 12}
"""A GPU is through with a unit in a twentieth of a second, too little to tell settings apart."""


@dataclass(frozen=True, slots=True)
class Work:
    """Who answers."""

    models: tuple[ModelSpec, ...]
    decode: DecodeOptions
    device: str
    threads: int
    batch_size: int | None
    files: WeightFiles = WEIGHTS_IN_PLACE


@dataclass(frozen=True, slots=True)
class Answer:
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


def answers(rows: pa.Table, work: Work, settings: Sequence[Setting]) -> list[Answer]:
    """Answer with each of some settings, which take turns every few images; all decode like the first.

    Args:
        rows: Of the plan.
        work: Who answers.
        settings: How.
    """
    models = work.files.here(work.models)
    load = partial(load_predictor, models, work.device, batch_size=work.batch_size, threads=work.threads)
    predictors = [load(setting=setting) for setting in settings]
    found: list[list[_Found]] = [[] for _ in settings]
    predicting, decoding = [0.0] * len(settings), 0.0
    with ThreadPoolExecutor(UNITS_AT_ONCE[work.device]) as callers:
        for number, (unit, seconds) in enumerate(decoded(rows, work.decode.at(settings[0]), work.device)):
            decoding += seconds
            for at in sorted(range(len(settings)), reverse=number % 2 == 1):
                predict = partial(_predict, unit, predictors[at])
                if number == 0 and work.device == "cpu":
                    # a compiled network folds its constants in each thread that calls it first, so all of them have to
                    predict(None if settings[at].compiled else _WARM_UP)
                elif number == 0:
                    _timed(predict, callers, _TIMES[work.device])  # cuDNN plans for each thread and size of batch
                each, seconds = _timed(predict, callers, _TIMES[work.device])
                found[at] += each
                predicting[at] += seconds
    return [_joined(each, decoding, seconds) for each, seconds in zip(found, predicting, strict=True)]


def decoded(
    rows: pa.Table, options: DecodeOptions, device: str
) -> Iterator[tuple[Callable[[], Iterable[Piece]], float]]:
    """What gives some images at a time, and how long that has taken; what the device decodes comes when called."""
    decoder = load_decoder(options, device)
    for start in range(0, rows.num_rows, _ROWS_AT_ONCE[device]):
        started = time.perf_counter()
        unit = fetch_and_decode(rows.slice(start, _ROWS_AT_ONCE[device]), options)
        if decoder is not None:
            yield partial(pieces, unit, options, decoder), time.perf_counter() - started
            continue
        for piece in pieces(unit, options):
            yield partial(_only, piece), time.perf_counter() - started
            started = time.perf_counter()


def _only(piece: Piece) -> Iterable[Piece]:
    return (piece,)


@dataclass(frozen=True, slots=True)
class _Found:
    columns: Mapping[str, pa.Array]
    sizes: Sequence[tuple[int, int]]
    row_ids: Sequence[int]
    image_bytes: Sequence[int]


def _predict(unit: Callable[[], Iterable[Piece]], predictor: Predictor, some: int | None = None) -> list[_Found]:
    found = []
    for piece in unit():
        good = np.flatnonzero([status == OK for status in piece.table[STATUS].to_pylist()])[:some]
        if not len(good):
            continue
        views = {view: [images[at] for at in good] for view, images in piece.views.items()}
        sizes = [piece.sizes[at] for at in good]
        columns = predictor.predict(views, sizes).columns
        kept = piece.table.take(pa.array(good))
        found.append(_Found(columns, sizes, kept[ROW_ID].to_pylist(), kept[IMAGE_BYTES].to_pylist()))
    return found


def _timed(work: Callable[[], list[_Found]], callers: ThreadPoolExecutor, times: int) -> tuple[list[_Found], float]:
    started = time.perf_counter()
    found = list(callers.map(lambda _: work(), range(times)))
    return found[0], (time.perf_counter() - started) / times


def _joined(found: Sequence[_Found], decoding: float, predicting: float) -> Answer:
    row_ids = [row_id for each in found for row_id in each.row_ids]
    order = np.argsort(row_ids, kind="stable")
    mean_bytes = float(np.mean([size for each in found for size in each.image_bytes] or [0]))
    sizes = [size for each in found for size in each.sizes]
    names = found[0].columns if found else ()
    columns = {name: pa.concat_arrays([each.columns[name] for each in found]).take(pa.array(order)) for name in names}
    in_order = [row_ids[at] for at in order], [sizes[at] for at in order]
    return Answer(columns, *in_order, mean_bytes, decoding, predicting)
