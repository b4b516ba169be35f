"""The images of a run as its plan knows them: their files, and their bytes, fetched as the run has fetched them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cvbatch.errors import RowError, UsageError
from cvbatch.export.base import ImageBatch
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.planned_images import PlannedImages
from cvbatch.schema import CONTENT_SHA256, FORMAT, ROW_ID
from cvbatch.sources.entries import exact_paths, spans_of_entries

CONTENT_COLUMNS: Final = (CONTENT_SHA256, FORMAT)
"""Columns that a batch must have for `BatchImages.iter_images`."""
_SUFFIXES: Final = {"jpeg": "jpg", "tiff": "tif"}


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One image of a batch."""

    position: int
    """In its batch."""
    suffix: str
    """By its content, without a dot, such as `jpg`."""
    data: bytes


class BatchImages:
    """Finds and fetches the images of batches, in memory that does not grow with the run.

    Args:
        opened: The run.
    """

    def __init__(self, opened: OpenedOutput) -> None:
        self._planned = PlannedImages(opened)
        self._unreadable = self._changed = 0

    @property
    def counts(self) -> Mapping[str, int]:
        """Images that `iter_images` has left out, by the reason."""
        counts = {"images that cannot be read any more": self._unreadable, "images changed since": self._changed}
        return {reason: count for reason, count in counts.items() if count}

    def find_files(self, batch: ImageBatch, otherwise: str) -> list[str]:
        """Paths of the images of a batch, all of which must be files on this disk.

        Args:
            batch: (n images)
            otherwise: What to ask for instead, such as `--images copy`.

        Raises:
            UsageError: If one is an object, a page, or in an archive or a table.
        """
        files = [""] * batch.images.num_rows
        position_of = _positions_of(batch)
        for rows in self._planned.iter_rows(batch.image_numbers(ROW_ID)):
            for row_id, path, span in zip(
                rows[ROW_ID].to_pylist(), exact_paths(rows), spans_of_entries(rows), strict=True
            ):
                if span is not None or not path.startswith(b"/"):
                    name = path.decode(errors="backslashreplace")
                    raise UsageError(f"{name} holds images that are no files of their own; use {otherwise}")
                files[position_of[row_id]] = os.fsdecode(path)
        return files

    def iter_images(self, batch: ImageBatch) -> Iterator[EncodedImage]:
        """Fetch the images of a batch, in any order; those that are gone or have changed are left out and counted.

        Args:
            batch: Has `CONTENT_COLUMNS`.
        """
        hashes, formats = (batch.images[name].to_pylist() for name in CONTENT_COLUMNS)
        position_of = _positions_of(batch)
        for row_id, data in self._planned.iter_bytes(batch.image_numbers(ROW_ID)):
            position = position_of[row_id]
            if isinstance(data, RowError):
                self._unreadable += 1
            elif hashlib.sha256(data).hexdigest() != hashes[position]:
                self._changed += 1
            else:
                suffix = formats[position] or "bin"
                yield EncodedImage(position, _SUFFIXES.get(suffix, suffix), data)


def _positions_of(batch: ImageBatch) -> dict[int, int]:
    """Position of each row id in a batch."""
    return {row_id: position for position, row_id in enumerate(batch.images[ROW_ID].to_pylist())}
