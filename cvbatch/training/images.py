"""The images of a training: listed, fetched and decoded once before anything is learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.config.job import SourceConfig
from cvbatch.errors import SourceError
from cvbatch.images.arrow_pixels import unpack_images
from cvbatch.schema import (
    CONTENT_SHA256,
    ERROR_MESSAGE,
    HEIGHT,
    IMAGE_URI,
    OK,
    ROW_ID,
    STATUS,
    WIDTH,
    pixels_column,
)
from cvbatch.sources.entries import ImageSource, regroup_tables
from cvbatch.stages.decode import DecodeOptions, fetch_and_decode
from cvbatch.system.control_group import usable_cores
from cvbatch.training.near_images import SIDE, THUMBNAIL, grey_values

GREY: Final = "grey"
"""Column with the grey values of a thumbnail; the plan does not keep it."""
_ROWS = 256


def list_images(
    source: ImageSource, config: SourceConfig, report: Callable[[str], None], kept: Sequence[str] = ()
) -> tuple[pa.Table, list[str]]:
    """List a source, and find out for each image its content and size, and whether it can be used.

    Args:
        source: The source.
        config: Its section of the job.
        report: Receives phrases about the progress.
        kept: Extra columns of the source that are needed.

    Returns:
        The images that can be used: what is needed to fetch them, `content_sha256`, `width`, `height`, and a dense
        `row_id`, and the `grey` values of a thumbnail; and sentences about the others.

    Raises:
        SourceError: If no image can be used.
    """
    options = replace(DecodeOptions.of_source(config, [THUMBNAIL]), threads=usable_cores())
    tables, failed, count = list[pa.Table](), list[str](), 0
    for rows in _iter_rows(source, config.limit):
        decoded = fetch_and_decode(rows, options)
        count += rows.num_rows
        is_ok = pc.equal(decoded[STATUS], OK)
        facts = decoded.filter(is_ok)
        listed = rows.filter(is_ok).select([name for name in rows.column_names if _is_needed(name, source, kept)])
        for name in (CONTENT_SHA256, WIDTH, HEIGHT):
            listed = listed.append_column(name, facts[name])
        thumbnails = [
            grey_values(image).tobytes() for image in unpack_images(facts[pixels_column(0)]) if image is not None
        ]
        listed = listed.append_column(GREY, pa.array(thumbnails, pa.binary(SIDE * SIDE)))
        tables.append(listed)
        bad = decoded.filter(pc.invert(is_ok))
        failed += [
            f"{uri} ({message})"
            for uri, message in zip(bad[IMAGE_URI].to_pylist(), bad[ERROR_MESSAGE].to_pylist(), strict=True)
        ]
        report(f"reading the images: {count:,}")
    usable = sum(table.num_rows for table in tables)
    if not usable:
        reason = f"none of its {count:,} images can be read, such as {failed[0]}" if failed else "it holds no images"
        raise SourceError(f"{', '.join(config.uris)}: expected images to learn from, but {reason}")
    images = pa.concat_tables(tables).combine_chunks()
    images = images.append_column(ROW_ID, pa.array(range(usable), pa.int64()))
    notes = [f"{len(failed):,} images cannot be read and take no part, such as {failed[0]}"] if failed else []
    return images, [*notes, *source.listing.unreadable_notes]


def _is_needed(name: str, source: ImageSource, kept: Sequence[str]) -> bool:
    return name in kept or name not in source.extra_columns.names


def _iter_rows(source: ImageSource, limit: int | None) -> Iterator[pa.Table]:
    remaining = limit
    for table in regroup_tables(source.iter_chunks(), _ROWS):
        rows = table if remaining is None else table.slice(0, remaining)
        if rows.num_rows:
            yield rows
        if remaining is not None:
            remaining -= rows.num_rows
            if not remaining:
                return
