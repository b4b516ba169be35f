"""The stage of an edit: rows of the plan → fetched, edited and stored images → rows of the audit."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import pyarrow as pa

from cvbatch.edits.base import Edit, EditedImage, OriginalImage
from cvbatch.edits.found_objects import ObjectSelection
from cvbatch.edits.names import RelativePaths
from cvbatch.edits.target import discard_files, store_files, sync_names
from cvbatch.errors import ImageError, RowError, capture_row_error
from cvbatch.images.formats import identify_format
from cvbatch.schema import (
    CONTENT_SHA256,
    EDIT_ACTIONS,
    EDIT_BOXES,
    EDIT_FIELDS,
    EDIT_LABELS,
    EDIT_NOTE,
    EDIT_PATHS,
    EDIT_SCORES,
    EDIT_SHA256S,
    ERROR,
    ERROR_MESSAGE,
    ERROR_STAGE,
    ERROR_TYPE,
    FORMAT,
    HEIGHT,
    IMAGE_BYTES,
    IMAGE_FIELDS,
    IMAGE_URI,
    MEASURES,
    ROW_ID,
    SOURCE_REMOVED,
    STATUS,
    WIDTH,
    WORKER,
)
from cvbatch.sources.fetch.plan_rows import plan_fetches
from cvbatch.stages.decoded_rows import error_columns
from cvbatch.storage.fetch_options import FetchOptions
from cvbatch.storage.location import Location

EDITING: Final = "edit"
"""The stage of errors of edits."""
_THREADS: Final = 8
"""Images of a unit at once: some are fetched or stored while one is edited. Files that are synced at the same time
share most of the work."""


@dataclass(frozen=True, slots=True)
class EditStage:
    """Edits the images of a unit; picklable, called in tasks of Ray."""

    edit: Edit
    objects: ObjectSelection
    to: Location
    """Where the files go."""
    paths: RelativePaths
    fetch_options: FetchOptions
    max_pixels: int

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Edit one unit.

        Args:
            rows: Rows of the plan.

        Returns:
            Rows of the audit: one for each image, whatever happens to it.

        Raises:
            RunError: The files cannot be stored, as on a full disk.
        """
        started = time.perf_counter()
        row_ids = rows[ROW_ID].to_pylist()
        found = self.objects.read_rows(row_ids)
        fetches = plan_fetches(rows, self.fetch_options)
        # only what takes a core is done for one image at a time; disks and buckets serve many at once
        core = threading.Lock()
        work = [
            partial(self._edit_row, found.get(row_id), path, fetch, core)
            for row_id, path, fetch in zip(row_ids, self.paths.of_rows(rows), fetches, strict=True)
        ]
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="edit") as pool:
            done = list(pool.map(lambda one: one(), work))
        sync_names(self.to, (path for row in done for path in row.stored_paths))
        return _to_audit(rows, done, (time.perf_counter() - started) / max(1, len(done)))

    def _edit_row(
        self, row: Mapping[str, Any] | None, path: str, fetch: Callable[[], bytes], core: threading.Lock
    ) -> _DoneRow:
        if row is None:
            return _DoneRow(error=RowError(EDITING, "NotInRun", "the run has no row for this image"))
        if row[SOURCE_REMOVED]:
            return _DoneRow(error=RowError(EDITING, "RemovedFromSource", "the image has been removed from the source"))
        if row[STATUS] == ERROR:
            return _DoneRow(error=RowError(row[ERROR_STAGE], row[ERROR_TYPE], row[ERROR_MESSAGE]))
        data = capture_row_error("fetch", fetch)
        if isinstance(data, RowError):
            return self._without_files(row, path, _DoneRow(error=data))
        sha256 = hashlib.sha256(data).hexdigest()
        values: dict[str, Any] = {IMAGE_BYTES: len(data), CONTENT_SHA256: sha256}
        with core:
            edited = capture_row_error(EDITING, lambda: self._edit_bytes(row, path, data, sha256))
        if isinstance(edited, RowError):
            return self._without_files(row, path, _DoneRow(values, error=edited))
        image, result = edited
        refused = store_files(self.to, result.files)
        if refused is not None:
            return _DoneRow(values, error=refused)
        return _DoneRow({**values, **_describe_edit(image, result)}, [file.path for file in result.files])

    def _edit_bytes(
        self, row: Mapping[str, Any], path: str, data: bytes, sha256: str
    ) -> tuple[OriginalImage, EditedImage]:
        if sha256 != row[CONTENT_SHA256]:
            raise ImageError("ChangedSinceRun", "the file is not the one that the run has seen (content_sha256)")
        image = self._to_original(row, path, data)
        return image, self.edit.edit_image(image)

    def _to_original(self, row: Mapping[str, Any], path: str, data: bytes) -> OriginalImage:
        (jpeg_path,) = self.paths.jpeg_paths([path], [row[ROW_ID]])
        size, objects = (row[WIDTH], row[HEIGHT]), self.objects.objects_of(row)
        return OriginalImage(path, data, size, self.max_pixels, objects, jpeg_path)

    def _without_files(self, row: Mapping[str, Any], path: str, done: _DoneRow) -> _DoneRow:
        """Leave nothing that an attempt has stored before it was killed: an image has files or an error."""
        with contextlib.suppress(ImageError):  # a mask of another size: such an image has never had files
            discard_files(self.to, self.edit.paths_of(self._to_original(row, path, b"")))
        return done


@dataclass(frozen=True, slots=True)
class _DoneRow:
    """What became of one image; without its pixels, since all images of a unit are kept until its end."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Of columns of the audit; those without one are null."""
    stored_paths: Sequence[str] = ()
    error: RowError | None = None


def _describe_edit(image: OriginalImage, edited: EditedImage) -> dict[str, Any]:
    return {
        WIDTH: image.size[0],
        HEIGHT: image.size[1],
        FORMAT: identify_format(image.data).name,
        EDIT_PATHS: [os.fsencode(file.path).decode("utf-8", "backslashreplace") for file in edited.files],
        EDIT_SHA256S: [hashlib.sha256(file.data).hexdigest() for file in edited.files],
        EDIT_LABELS: [found.label for found in image.objects],
        EDIT_SCORES: [found.score for found in image.objects],
        EDIT_BOXES: [found.box for found in image.objects],
        EDIT_ACTIONS: list(edited.actions),
        EDIT_NOTE: edited.note,
    }


def _to_audit(rows: pa.Table, done: Sequence[_DoneRow], seconds: float) -> pa.Table:
    known: dict[str, Sequence[Any]] = {
        ROW_ID: rows[ROW_ID],
        IMAGE_URI: rows[IMAGE_URI],
        **error_columns([row.error for row in done]),
    }
    fields = [*IMAGE_FIELDS, *EDIT_FIELDS]
    arrays = [
        _to_column(known.get(column.name) or [row.values.get(column.name) for row in done], column.type)
        for column in fields
    ]
    table = pa.Table.from_arrays(arrays, names=[column.name for column in fields])
    facts = json.dumps({"host": platform.node(), "pid": os.getpid()})
    measured = pa.array([seconds] * len(done), pa.float64())
    table = table.append_column(f"{MEASURES}decode", measured).append_column(f"{MEASURES}predict", measured)
    return table.append_column(WORKER, pa.repeat(pa.scalar(facts), len(done)))


def _to_column(values: Sequence[Any], kind: pa.DataType) -> Any:
    return values if isinstance(values, pa.ChunkedArray) else pa.array(values, kind)
