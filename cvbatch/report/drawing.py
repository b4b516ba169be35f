"""Small pictures of some images of a run, upright and in the colours that the run has decoded."""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from cvbatch.config.job import Job
from cvbatch.errors import CvbatchError, RowError, capture_row_error
from cvbatch.images.decode import DecodedImage, decode
from cvbatch.results.committed import OpenedOutput, open_output
from cvbatch.results.planned_images import PlannedImages
from cvbatch.storage.location import Location
from cvbatch.system.control_group import usable_cores

LONG_SIDE: Final = 400
"""Longer side of a picture, in pixels."""
_QUALITIES: Final = (
    (1.0, 72, 1.0),
    (1.0, 55, 0.7),
    (1.0, 40, 0.5),
    (0.8, 40, 0.35),
    (0.64, 40, 0.25),
    (0.5, 35, 0.14),
    (0.35, 25, 0.05),
    (0.2, 10, 0.0),
)
"""Size, as a share, and quality of WebP, until a picture is small enough; and a little less than the smallest share of
the bytes of the first that photos had (0.75, 0.59, 0.40, 0.28, 0.16 and 0.06): what cannot fit is not tried."""
_METHOD: Final = 4
"""Effort of WebP, 0 to 6: 6 takes twice the time for 2 % fewer bytes."""


@dataclass(frozen=True, slots=True)
class DrawnImage:
    """One small picture, or why there is none."""

    row_id: int
    data: bytes | None
    """A WebP file."""
    month: str | None
    """When the image was captured, such as `2024-05`; None if it does not say."""
    problem: str | None


def draw_images(opened: OpenedOutput, hashes: Mapping[int, str], max_bytes: int) -> Iterator[DrawnImage]:
    """Draw some images, in any order, in memory for a few.

    Args:
        opened: The run.
        hashes: What the run has seen of each image, by row id: `content_sha256`.
        max_bytes: Most bytes of a picture.
    """
    images = PlannedImages(opened)
    pending, threads = deque[Future[DrawnImage]](), usable_cores()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="draw")
    try:
        for row_id, data in images.iter_bytes(np.array(sorted(hashes), np.int64)):
            pending.append(pool.submit(_draw_image, row_id, data, hashes[row_id], images.job, max_bytes))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def draw_part(output: Location, hashes: Mapping[int, str], max_bytes: int) -> list[DrawnImage]:
    """Draw some images as a task of a cluster; see `draw_images`. A run that cannot be read there is their problem."""
    try:
        return list(draw_images(open_output(output), hashes, max_bytes))
    except CvbatchError as error:
        return [DrawnImage(row_id, None, None, str(error)) for row_id in hashes]


def encode_thumbnail(image: Image.Image, max_bytes: int, long_side: int = LONG_SIDE) -> bytes:
    """Encode a small picture.

    Args:
        image: RGB.
        max_bytes: Most bytes; only the smallest and worst picture may have more.
        long_side: Its longer side in pixels; a smaller image keeps its size.

    Returns:
        A WebP file.
    """
    data, first = b"", 0
    for share, quality, smallest in _QUALITIES:
        if smallest * first > max_bytes:
            continue
        small = image.copy()
        side = max(1, round(long_side * share))
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        small.save(file, "WEBP", quality=quality, method=_METHOD)
        data = file.getvalue()
        first = first or len(data)
        if len(data) <= max_bytes:
            break
    return data


def _draw_image(row_id: int, data: bytes | RowError, sha256: str, job: Job, max_bytes: int) -> DrawnImage:
    if isinstance(data, RowError):
        return DrawnImage(row_id, None, None, f"{data.type}: {data.message}")
    if hashlib.sha256(data).hexdigest() != sha256:
        return DrawnImage(row_id, None, None, "the image has changed since")
    decoded = capture_row_error("decode", lambda: _decode_as_run(data, job))
    if isinstance(decoded, RowError):
        return DrawnImage(row_id, None, None, f"{decoded.type}: {decoded.message}")
    captured = decoded.exif.captured_at if decoded.exif else None
    month = None if captured is None else captured.strftime("%Y-%m")
    return DrawnImage(row_id, encode_thumbnail(decoded.image, max_bytes), month, None)


def _decode_as_run(data: bytes, job: Job) -> DecodedImage:
    source = job.source
    return decode(
        data,
        max_pixels=source.max_pixels,
        exif=True,
        min_decode_side=LONG_SIDE,
        icc=source.icc == "convert",
        keep_damaged=source.keeps_damaged,
    )
