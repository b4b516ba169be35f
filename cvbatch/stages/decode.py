"""The first stage: rows of the plan → encoded bytes → RGB pixels, or an error for that row alone."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Final

import pyarrow as pa

from cvbatch.errors import RowError, attempt
from cvbatch.images.arrow_pixels import Image, pack
from cvbatch.images.colour_profiles import may_have_profile
from cvbatch.images.decode import Decoded, decode
from cvbatch.images.jpeg_header import Header, plain_jpeg
from cvbatch.images.preprocess import View, apply, enough, fits
from cvbatch.inference.settings import Setting
from cvbatch.output.data_files import CHANGED
from cvbatch.schema import (
    CONTENT_SHA256,
    DECODED_FIELDS,
    ENCODED,
    ERROR,
    ERROR_MESSAGE,
    ERROR_STAGE,
    ERROR_TRANSIENT,
    ERROR_TYPE,
    EXIF_FIELDS,
    FORMAT,
    HEIGHT,
    IMAGE_BYTES,
    IMAGE_FIELDS,
    IMAGE_WARNING,
    MEASURES,
    OK,
    STATUS,
    TURN,
    WARNING_FIELD,
    WIDTH,
    is_hidden,
    pixels_column,
)
from cvbatch.sources.entries import INTERNAL
from cvbatch.sources.fetch.plan_rows import fetches
from cvbatch.storage.fetch_options import DISK, Reach

MAX_UNIT_PIXEL_BYTES: Final = 256 << 20
THREADS: Final = 2
_CHANGED: Final = f"{MEASURES}{CHANGED}"


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What the decode stage makes of each image."""

    views: tuple[View, ...]
    """The distinct preprocessings of the job; one array each."""
    max_pixels: int
    exif: bool = False
    icc: bool = False
    """Bring colours to sRGB by the profiles in the files."""
    keep_damaged: bool = False
    """Take damaged images as far as they go, and say what is wrong with them."""
    reach: Reach = DISK
    """How images are got."""
    scaled: bool = False
    """Let JPEGs that are much larger than the views need be scaled down while they are decoded."""
    on_device: bool = False
    """Leave plain JPEGs encoded for the GPU."""
    max_unit_bytes: int = MAX_UNIT_PIXEL_BYTES
    """Once a unit holds so many bytes of pixels, its remaining rows travel encoded."""

    def at(self, setting: Setting) -> DecodeOptions:
        """The same as a setting wants it."""
        return replace(self, scaled=setting.scaled_decode, on_device=setting.device_decode)


@dataclass(frozen=True, slots=True)
class _Row:
    """One image on its way; `error` is set, or `encoded` where decoding is left to the next stage."""

    data: bytes | None = None
    sha256: str | None = None
    decoded: Decoded | None = None
    header: Header | None = None
    images: tuple[Image, ...] = ()
    error: RowError | None = None

    @property
    def encoded(self) -> bytes | None:
        return self.data if self.decoded is None and self.error is None else None


def fetch_and_decode(rows: pa.Table, options: DecodeOptions) -> pa.Table:
    """Read and decode the images of one unit.

    Args:
        rows: Rows of the plan.
        options: What to make of each image.

    Returns:
        One row per row, with the columns of the schema, the pixels of each view and, where the pixel budget
        was used up or the device decodes, the encoded bytes.
    """
    carried = [name for name in rows.column_names if name not in INTERNAL]
    changed = set[int]()
    reads = fetches(rows, options.reach, changed.add)
    table = _decode_all(rows.select(carried), [partial(_fetch, read) for read in reads], options)
    return table.append_column(_CHANGED, pa.array([float(at in changed) for at in range(rows.num_rows)], pa.float64()))


def decode_encoded(table: pa.Table, options: DecodeOptions) -> pa.Table:
    """Decode rows that `fetch_and_decode` left encoded, until the pixel budget is used up again."""
    ours = {column.name for column in (*DECODED_FIELDS, *EXIF_FIELDS)}
    if options.keep_damaged:
        ours.add(IMAGE_WARNING)
    rows = table.select([name for name in table.column_names if name not in ours and not is_hidden(name)])
    held = zip(table[ENCODED].to_pylist(), table[CONTENT_SHA256].to_pylist(), strict=True)
    decoded = _decode_all(rows, [partial(_Row, data, sha256) for data, sha256 in held], options)
    return decoded.append_column(_CHANGED, table[_CHANGED])


def _decode_all(rows: pa.Table, fetches: Sequence[Callable[[], _Row]], options: DecodeOptions) -> pa.Table:
    budget = _Budget(options.max_unit_bytes)
    started = time.perf_counter()
    done = list(_pool(os.getpid(), THREADS).map(lambda fetch: _work(fetch, options, budget), fetches))
    seconds = (time.perf_counter() - started) / max(1, len(done))
    return _table(rows, done, options, seconds)


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads that stay: glibc would keep what those of each unit had held, gigabytes in the end."""
    return ThreadPoolExecutor(threads, thread_name_prefix="decode")


def _fetch(read: Callable[[], bytes]) -> _Row:
    result = attempt("fetch", read)
    if isinstance(result, RowError):
        return _Row(error=result)
    return _Row(data=result, sha256=hashlib.sha256(result).hexdigest())


def _work(fetch: Callable[[], _Row], options: DecodeOptions, budget: _Budget) -> _Row:
    row = fetch()
    if row.data is None or budget.used_up:
        return row
    if options.on_device and not (options.icc and may_have_profile(row.data)):
        header = plain_jpeg(row.data, max_pixels=options.max_pixels, exif=options.exif)
        if header is not None and all(fits(view, (header.width, header.height)) for view in options.views):
            return _Row(data=row.data, sha256=row.sha256, header=header)
    result = attempt("decode", lambda: _decode(row.data or b"", options))
    if isinstance(result, RowError):
        return _Row(data=row.data, sha256=row.sha256, error=result)
    decoded, images = result
    budget.spend(sum(image.nbytes for image in images))
    return _Row(data=row.data, sha256=row.sha256, decoded=decoded, images=images)


def _decode(data: bytes, options: DecodeOptions) -> tuple[Decoded, tuple[Image, ...]]:
    smallest = enough(options.views) if options.scaled else None
    decoded = decode(
        data,
        max_pixels=options.max_pixels,
        exif=options.exif,
        enough=smallest,
        icc=options.icc,
        keep_damaged=options.keep_damaged,
    )
    size = (decoded.width, decoded.height)
    return decoded, tuple(apply(view, decoded.image, size) for view in options.views)


class _Budget:
    """Bytes of pixels that a unit may still hold; overshoot by one image per thread does no harm."""

    def __init__(self, count: int) -> None:
        self._left = count

    @property
    def used_up(self) -> bool:
        return self._left <= 0

    def spend(self, count: int) -> None:
        self._left -= count


def _table(rows: pa.Table, done: Sequence[_Row], options: DecodeOptions, seconds: float) -> pa.Table:
    known = [row.decoded or row.header for row in done]
    facts: dict[str, list[Any]] = {
        IMAGE_BYTES: [None if row.data is None else len(row.data) for row in done],
        WIDTH: [each and each.width for each in known],
        HEIGHT: [each and each.height for each in known],
        FORMAT: [each and each.format for each in known],
        CONTENT_SHA256: [row.sha256 for row in done],
        **error_columns([row.error for row in done]),
    }
    if options.exif:
        for column in EXIF_FIELDS:
            name = column.name.removeprefix("exif_")
            facts[column.name] = [getattr(each.exif, name) if each else None for each in known]
    if options.keep_damaged:
        facts[IMAGE_WARNING] = [row.decoded and row.decoded.warning for row in done]
    types = {column.name: column.type for column in (*IMAGE_FIELDS, *EXIF_FIELDS, WARNING_FIELD)}
    table = rows.drop_columns([IMAGE_BYTES]) if IMAGE_BYTES in rows.column_names else rows
    for name, values in facts.items():
        table = table.append_column(name, pa.array(values, types[name]))
    for index in range(len(options.views)):
        images = [row.images[index] if row.images else None for row in done]
        table = table.append_column(pixels_column(index), pack(images))
    table = table.append_column(ENCODED, pa.array([row.encoded for row in done], pa.large_binary()))
    table = table.append_column(TURN, pa.array([row.header and row.header.turn for row in done], pa.int8()))
    return table.append_column(f"{MEASURES}decode", pa.array([seconds] * len(done), pa.float64()))


def error_columns(errors: Sequence[RowError | None]) -> dict[str, list[Any]]:
    """The status and error columns of rows."""
    return {
        STATUS: [OK if error is None else ERROR for error in errors],
        ERROR_STAGE: [error and error.stage for error in errors],
        ERROR_TYPE: [error and error.type for error in errors],
        ERROR_MESSAGE: [error and error.message for error in errors],
        ERROR_TRANSIENT: [None if error is None else error.transient for error in errors],
    }


def error_rows(rows: pa.Table, schema: pa.Schema, error: RowError) -> pa.Table:
    """The predictions of rows of the plan that all have one error.

    Args:
        rows: Of the plan.
        schema: Of the predictions.
        error: Why there are none.
    """
    facts = {column.name: column.type for column in schema}
    known = {name: rows[name] for name in rows.column_names if name in facts}
    errors = {name: pa.array(values, facts[name]) for name, values in error_columns([error] * rows.num_rows).items()}
    absent = {name: pa.nulls(rows.num_rows, kind) for name, kind in facts.items() if name not in known | errors}
    return pa.table({name: (known | errors | absent)[name] for name in schema.names})
