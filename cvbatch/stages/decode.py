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

from cvbatch.errors import RowError, capture_row_error
from cvbatch.images.arrow_pixels import RgbArray, pack_images
from cvbatch.images.colour_profiles import may_have_profile
from cvbatch.images.decode import DecodedImage, decode
from cvbatch.images.jpeg_header import JpegHeader, read_baseline_header
from cvbatch.images.preprocess import View, apply_view, can_resize_whole, compute_min_decode_side
from cvbatch.inference.settings import InferenceSettings
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
from cvbatch.sources.fetch.plan_rows import plan_fetches
from cvbatch.storage.fetch_options import LOCAL_FETCH, FetchOptions

MAX_UNIT_PIXEL_BYTES: Final = 256 << 20
DECODE_THREADS: Final = 2
_CHANGED: Final = f"{MEASURES}{CHANGED}"


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """Options of the decode stage."""

    views: tuple[View, ...]
    """Distinct views of the job; one pixel array per image and view."""
    max_pixels: int
    exif: bool = False
    icc: bool = False
    """Convert colours to sRGB with the ICC profiles in the files."""
    keep_damaged: bool = False
    """Use the readable part of damaged images, with a warning in their row."""
    fetch_options: FetchOptions = LOCAL_FETCH
    """Options for fetching image bytes."""
    scaled: bool = False
    """Scale JPEGs down during decoding where they are much larger than the views need."""
    on_device: bool = False
    """Leave plain JPEGs encoded for the GPU."""
    max_unit_bytes: int = MAX_UNIT_PIXEL_BYTES
    """Once a unit holds this many bytes of pixels, its remaining rows stay encoded."""
    threads: int = DECODE_THREADS

    def with_settings(self, setting: InferenceSettings) -> DecodeOptions:
        """Return the options with the decode choices of a setting."""
        return replace(self, scaled=setting.scaled_decode, on_device=setting.device_decode)


@dataclass(frozen=True, slots=True)
class _DecodedRow:
    """State of one image: decoded, failed with `error`, or left to the next stage as `encoded_bytes`."""

    data: bytes | None = None
    sha256: str | None = None
    decoded: DecodedImage | None = None
    header: JpegHeader | None = None
    images: tuple[RgbArray, ...] = ()
    error: RowError | None = None

    @property
    def encoded_bytes(self) -> bytes | None:
        return self.data if self.decoded is None and self.error is None else None


def fetch_and_decode(rows: pa.Table, options: DecodeOptions) -> pa.Table:
    """Fetch and decode the images of one unit.

    Args:
        rows: Rows of the plan.
        options: Options of the decode stage.

    Returns:
        The same rows with the columns of the schema, the pixels of each view and, where the pixel budget is used up
        or the device decodes, the encoded bytes.
    """
    kept_columns = [name for name in rows.column_names if name not in INTERNAL]
    changed_rows = set[int]()
    reads = plan_fetches(rows, options.fetch_options, changed_rows.add)
    table = _decode_rows(rows.select(kept_columns), [partial(_fetch_row, read) for read in reads], options)
    return table.append_column(
        _CHANGED, pa.array([float(index in changed_rows) for index in range(rows.num_rows)], pa.float64())
    )


def decode_encoded_rows(table: pa.Table, options: DecodeOptions) -> pa.Table:
    """Decode rows that `fetch_and_decode` left encoded, until the pixel budget is used up again."""
    decoded_columns = {column.name for column in (*DECODED_FIELDS, *EXIF_FIELDS)}
    if options.keep_damaged:
        decoded_columns.add(IMAGE_WARNING)
    rows = table.select([name for name in table.column_names if name not in decoded_columns and not is_hidden(name)])
    encoded_files = zip(table[ENCODED].to_pylist(), table[CONTENT_SHA256].to_pylist(), strict=True)
    decoded = _decode_rows(rows, [partial(_DecodedRow, data, sha256) for data, sha256 in encoded_files], options)
    return decoded.append_column(_CHANGED, table[_CHANGED])


def _decode_rows(rows: pa.Table, fetches: Sequence[Callable[[], _DecodedRow]], options: DecodeOptions) -> pa.Table:
    budget = _PixelBudget(options.max_unit_bytes)
    started = time.perf_counter()
    decoded_rows = list(
        _decode_thread_pool(os.getpid(), options.threads).map(
            lambda fetch: _decode_row(fetch, options, budget), fetches
        )
    )
    seconds = (time.perf_counter() - started) / max(1, len(decoded_rows))
    return _build_decoded_table(rows, decoded_rows, options, seconds)


@lru_cache(maxsize=1)
def _decode_thread_pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return threads that are reused by all units: with new ones per unit glibc would accumulate gigabytes."""
    return ThreadPoolExecutor(threads, thread_name_prefix="decode")


def _fetch_row(read: Callable[[], bytes]) -> _DecodedRow:
    result = capture_row_error("fetch", read)
    if isinstance(result, RowError):
        return _DecodedRow(error=result)
    return _DecodedRow(data=result, sha256=hashlib.sha256(result).hexdigest())


def _decode_row(fetch: Callable[[], _DecodedRow], options: DecodeOptions, budget: _PixelBudget) -> _DecodedRow:
    row = fetch()
    if row.data is None or budget.is_used_up:
        return row
    if options.on_device and not (options.icc and may_have_profile(row.data)):
        header = read_baseline_header(row.data, max_pixels=options.max_pixels, exif=options.exif)
        if header is not None and all(can_resize_whole(view, (header.width, header.height)) for view in options.views):
            return _DecodedRow(data=row.data, sha256=row.sha256, header=header)
    result = capture_row_error("decode", lambda: _decode_to_views(row.data or b"", options))
    if isinstance(result, RowError):
        return _DecodedRow(data=row.data, sha256=row.sha256, error=result)
    decoded, images = result
    budget.spend_bytes(sum(image.nbytes for image in images))
    return _DecodedRow(data=row.data, sha256=row.sha256, decoded=decoded, images=images)


def _decode_to_views(data: bytes, options: DecodeOptions) -> tuple[DecodedImage, tuple[RgbArray, ...]]:
    min_decode_side = compute_min_decode_side(options.views) if options.scaled else None
    decoded = decode(
        data,
        max_pixels=options.max_pixels,
        exif=options.exif,
        min_decode_side=min_decode_side,
        icc=options.icc,
        keep_damaged=options.keep_damaged,
    )
    size = (decoded.width, decoded.height)
    return decoded, tuple(apply_view(view, decoded.image, size) for view in options.views)


class _PixelBudget:
    """Bytes of pixels that a unit may still hold; exceeding them by one image per thread is harmless."""

    def __init__(self, byte_count: int) -> None:
        self._remaining_bytes = byte_count

    @property
    def is_used_up(self) -> bool:
        return self._remaining_bytes <= 0

    def spend_bytes(self, byte_count: int) -> None:
        self._remaining_bytes -= byte_count


def _build_decoded_table(
    rows: pa.Table, decoded_rows: Sequence[_DecodedRow], options: DecodeOptions, seconds: float
) -> pa.Table:
    row_facts = [row.decoded or row.header for row in decoded_rows]
    values_by_column: dict[str, list[Any]] = {
        IMAGE_BYTES: [None if row.data is None else len(row.data) for row in decoded_rows],
        WIDTH: [facts and facts.width for facts in row_facts],
        HEIGHT: [facts and facts.height for facts in row_facts],
        FORMAT: [facts and facts.format for facts in row_facts],
        CONTENT_SHA256: [row.sha256 for row in decoded_rows],
        **error_columns([row.error for row in decoded_rows]),
    }
    if options.exif:
        for column in EXIF_FIELDS:
            name = column.name.removeprefix("exif_")
            values_by_column[column.name] = [getattr(facts.exif, name) if facts else None for facts in row_facts]
    if options.keep_damaged:
        values_by_column[IMAGE_WARNING] = [row.decoded and row.decoded.warning for row in decoded_rows]
    types = {column.name: column.type for column in (*IMAGE_FIELDS, *EXIF_FIELDS, WARNING_FIELD)}
    table = rows.drop_columns([IMAGE_BYTES]) if IMAGE_BYTES in rows.column_names else rows
    for name, values in values_by_column.items():
        table = table.append_column(name, pa.array(values, types[name]))
    for index in range(len(options.views)):
        images = [row.images[index] if row.images else None for row in decoded_rows]
        table = table.append_column(pixels_column(index), pack_images(images))
    table = table.append_column(ENCODED, pa.array([row.encoded_bytes for row in decoded_rows], pa.large_binary()))
    table = table.append_column(
        TURN, pa.array([row.header and row.header.orientation for row in decoded_rows], pa.int8())
    )
    return table.append_column(f"{MEASURES}decode", pa.array([seconds] * len(decoded_rows), pa.float64()))


def error_columns(errors: Sequence[RowError | None]) -> dict[str, list[Any]]:
    """Return the values of the status and error columns by name."""
    return {
        STATUS: [OK if error is None else ERROR for error in errors],
        ERROR_STAGE: [error and error.stage for error in errors],
        ERROR_TYPE: [error and error.type for error in errors],
        ERROR_MESSAGE: [error and error.message for error in errors],
        ERROR_TRANSIENT: [None if error is None else error.transient for error in errors],
    }


def to_error_rows(rows: pa.Table, schema: pa.Schema, error: RowError) -> pa.Table:
    """Return rows of predictions that all have the same error.

    Args:
        rows: Rows of the plan.
        schema: Of the predictions.
        error: The error of every row.
    """
    types = {column.name: column.type for column in schema}
    plan_columns = {name: rows[name] for name in rows.column_names if name in types}
    error_arrays = {
        name: pa.array(values, types[name]) for name, values in error_columns([error] * rows.num_rows).items()
    }
    missing_columns = {
        name: pa.nulls(rows.num_rows, column_type)
        for name, column_type in types.items()
        if name not in plan_columns | error_arrays
    }
    return pa.table({name: (plan_columns | error_arrays | missing_columns)[name] for name in schema.names})
