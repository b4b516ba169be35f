"""The first stage: rows of the plan → encoded bytes → RGB pixels, or an error for that row alone."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Final

import pyarrow as pa

from cvbatch.config.job import SourceConfig
from cvbatch.errors import RowError, capture_row_error
from cvbatch.images.arrow_pixels import RgbArray
from cvbatch.images.colour_profiles import may_have_profile
from cvbatch.images.decode import DecodedImage, decode
from cvbatch.images.file_view import FileView
from cvbatch.images.jpeg_header import read_baseline_header
from cvbatch.images.preprocess import View, apply_view, can_resize_whole, compute_min_decode_side
from cvbatch.images.tiles import MAX_TILED_PIXELS
from cvbatch.inference.settings import InferenceSettings
from cvbatch.output.data_files import CHANGED
from cvbatch.schema import (
    CONTENT_SHA256,
    DECODED_FIELDS,
    ENCODED,
    EXIF_FIELDS,
    GEO_FIELDS,
    IMAGE_WARNING,
    MEASURES,
    is_hidden,
)
from cvbatch.sources.entries import INTERNAL
from cvbatch.sources.fetch.plan_rows import plan_fetches
from cvbatch.stages.decoded_rows import DecodedRow, build_decoded_table
from cvbatch.stages.tiled_rows import PictureFacts, TiledPicture, open_tiled_picture
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
    """Most pixels of a picture that may be in memory as a whole."""
    max_tiled_pixels: int = MAX_TILED_PIXELS
    """Most pixels of a picture that is read in parts, because all views cut tiles."""
    exif: bool = False
    icc: bool = False
    """Convert colours to sRGB with the ICC profiles in the files."""
    keep_damaged: bool = False
    """Use the readable part of damaged images, with a warning in their row."""
    geo: bool = False
    """Add where GeoTIFFs lie."""
    fetch_options: FetchOptions = LOCAL_FETCH
    """Options for fetching image bytes."""
    scaled: bool = False
    """Scale JPEGs down during decoding where they are much larger than the views need."""
    on_device: bool = False
    """Leave plain JPEGs encoded for the GPU."""
    max_unit_bytes: int = MAX_UNIT_PIXEL_BYTES
    """Once a unit holds this many bytes of pixels, its remaining rows stay encoded."""
    threads: int = DECODE_THREADS

    @staticmethod
    def of_source(source: SourceConfig, views: Iterable[View]) -> DecodeOptions:
        """Return how the pixels of a source are decoded, without the facts that its files say of themselves.

        Args:
            source: The section of the job.
            views: What is seen of each image; the same view may be given several times.
        """
        return DecodeOptions(
            views=tuple(dict.fromkeys(views)),
            max_pixels=source.max_pixels,
            max_tiled_pixels=source.max_tiled_pixels,
            icc=source.icc == "convert",
            keep_damaged=source.keeps_damaged,
            fetch_options=source.fetch_options,
        )

    @property
    def cuts_tiles(self) -> bool:
        """Whether a view cuts tiles."""
        return any(view.tiles is not None for view in self.views)

    def with_settings(self, setting: InferenceSettings) -> DecodeOptions:
        """Return the options with the decode choices of a setting."""
        return replace(self, scaled=setting.scaled_decode, on_device=setting.device_decode)


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
    started = time.perf_counter()
    decoded_rows = _decode_in_threads([partial(_fetch_row, read) for read in reads], options)
    seconds = (time.perf_counter() - started) / max(1, len(decoded_rows))
    table = build_decoded_table(rows.select(kept_columns), decoded_rows, options, seconds)
    return table.append_column(
        _CHANGED, pa.array([float(index in changed_rows) for index in range(rows.num_rows)], pa.float64())
    )


def decode_encoded_rows(table: pa.Table, options: DecodeOptions) -> pa.Table:
    """Decode rows that `fetch_and_decode` left encoded, until the pixel budget is used up again.

    Jobs with tiles open them one by one; see `open_encoded_row`.
    """
    encoded_files = zip(table[ENCODED].to_pylist(), table[CONTENT_SHA256].to_pylist(), strict=True)
    started = time.perf_counter()
    rows = _decode_in_threads([partial(DecodedRow, data, sha256) for data, sha256 in encoded_files], options)
    return _with_columns_of(table, rows, options, (time.perf_counter() - started) / max(1, len(rows)))


def _with_columns_of(
    table: pa.Table, decoded_rows: Sequence[DecodedRow], options: DecodeOptions, seconds: float = 0.0
) -> pa.Table:
    """Return rows that were left encoded with the columns of decoded ones."""
    decoded_columns = {column.name for column in (*DECODED_FIELDS, *EXIF_FIELDS)}
    if options.geo:
        decoded_columns |= {column.name for column in GEO_FIELDS}
    if options.keep_damaged:
        decoded_columns.add(IMAGE_WARNING)
    rows = table.select([name for name in table.column_names if name not in decoded_columns and not is_hidden(name)])
    return build_decoded_table(rows, decoded_rows, options, seconds).append_column(_CHANGED, table[_CHANGED])


def _decode_in_threads(fetches: Sequence[Callable[[], DecodedRow]], options: DecodeOptions) -> list[DecodedRow]:
    budget = _PixelBudget(options.max_unit_bytes)
    pool = _decode_thread_pool(os.getpid(), options.threads)
    return list(pool.map(lambda fetch: _decode_row(fetch, options, budget), fetches))


@lru_cache(maxsize=1)
def _decode_thread_pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return threads that are reused by all units: with new ones per unit glibc would accumulate gigabytes."""
    return ThreadPoolExecutor(threads, thread_name_prefix="decode")


def _fetch_row(read: Callable[[], bytes]) -> DecodedRow:
    result = capture_row_error("fetch", read)
    if isinstance(result, RowError):
        return DecodedRow(error=result)
    return DecodedRow(data=result, sha256=hashlib.sha256(result).hexdigest())


def _decode_row(fetch: Callable[[], DecodedRow], options: DecodeOptions, budget: _PixelBudget) -> DecodedRow:
    row = fetch()
    if not isinstance(row.data, bytes) or budget.is_used_up:
        return row
    if options.on_device and not (options.icc and may_have_profile(row.data)):
        header = read_baseline_header(row.data, max_pixels=options.max_pixels, exif=options.exif)
        if header is not None and all(can_resize_whole(view, (header.width, header.height)) for view in options.views):
            return DecodedRow(data=row.data, sha256=row.sha256, header=header)
    result = capture_row_error("decode", partial(_decode_to_views, row.data, options, budget))
    if isinstance(result, RowError):
        return DecodedRow(data=row.data, sha256=row.sha256, error=result)
    if result is None:
        return row
    decoded, images = result
    return DecodedRow(data=row.data, sha256=row.sha256, decoded=decoded, images=images)


def _decode_to_views(
    data: bytes, options: DecodeOptions, budget: _PixelBudget
) -> tuple[DecodedImage | PictureFacts, tuple[RgbArray | list[RgbArray], ...]] | None:
    """Decode to all views; None if there are too many tiles for the budget."""
    if options.cuts_tiles:
        picture = open_picture(data, options)
        return (picture.facts, picture.read_views()) if budget.reserve_bytes(picture.tile_bytes) else None
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
    images = tuple(apply_view(view, decoded.image, size) for view in options.views)
    budget.spend_bytes(sum(image.nbytes for image in images))
    return decoded, images


def open_picture(data: bytes | FileView, options: DecodeOptions) -> TiledPicture:
    """Open a picture of a job with tiles; see `open_tiled_picture`."""
    return open_tiled_picture(
        data,
        options.views,
        max_pixels=options.max_pixels,
        max_tiled_pixels=options.max_tiled_pixels,
        exif=options.exif,
        icc=options.icc,
        keep_damaged=options.keep_damaged,
    )


def open_encoded_row(row: pa.Table, options: DecodeOptions) -> tuple[pa.Table, TiledPicture | None]:
    """Open a row of a job with tiles.

    Args:
        row: One row that `fetch_and_decode` left encoded.
        options: As there.

    Returns:
        The row as it would be decoded, without pixels; and its picture, None if there is an error.
    """
    data, (sha256,) = FileView(memoryview(row[ENCODED][0].as_buffer())), row[CONTENT_SHA256].to_pylist()
    result = capture_row_error("decode", lambda: open_picture(data, options))
    if isinstance(result, RowError):
        return _with_columns_of(row, [DecodedRow(data, sha256, error=result)], options), None
    return _with_columns_of(row, [DecodedRow(data, sha256, decoded=result.facts)], options), result


class _PixelBudget:
    """Bytes of pixels that a unit may still hold; exceeding them by one image per thread is harmless."""

    def __init__(self, byte_count: int) -> None:
        self._remaining_bytes, self._lock = byte_count, threading.Lock()

    @property
    def is_used_up(self) -> bool:
        return self._remaining_bytes <= 0

    def spend_bytes(self, byte_count: int) -> None:
        with self._lock:
            self._remaining_bytes -= byte_count

    def reserve_bytes(self, byte_count: int) -> bool:
        """Spend bytes if that many remain: the tiles of one picture may be more than a unit may hold."""
        with self._lock:
            if byte_count > self._remaining_bytes:
                return False
            self._remaining_bytes -= byte_count
            return True
