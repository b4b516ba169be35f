"""The path of an image below the root of its source, as its edited file keeps it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.edits.target import AUDIT_FOLDER
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.planned_images import PlannedImages
from cvbatch.schema import IMAGE_URI, LOCATION, ROW_ID
from cvbatch.sources.entries import exact_paths, readable_path, spans_of_entries
from cvbatch.storage.local_paths import to_local_path

_BATCH_ROWS: Final = 65_536


@dataclass(frozen=True, slots=True)
class RelativePaths:
    """Finds relative paths of images."""

    roots: tuple[str, ...]
    """Locations of the sources."""
    repeated: npt.NDArray[np.uint64]
    """Hashes of the paths that several images have; these get their row id in front of the extension."""

    def of_rows(self, rows: pa.Table) -> list[str]:
        """Relative paths of planned images, with `/` between parts; bytes that are not UTF-8 are surrogates."""
        paths = _plain_paths(rows, self.roots)
        is_repeated = np.isin(_hashes(paths), self.repeated).tolist()
        return [
            _with_row_id(path, row_id) if again else path
            for path, row_id, again in zip(paths, rows[ROW_ID].to_pylist(), is_repeated, strict=True)
        ]


def find_relative_paths(opened: OpenedOutput, rows: int) -> RelativePaths:
    """Look through all planned images for paths that are not unique.

    Args:
        opened: The run.
        rows: Number of its images.
    """
    images = PlannedImages(opened)
    roots = tuple(images.job.source.uris)
    hashes = [np.zeros(0, np.uint64)]
    for low in range(0, rows, _BATCH_ROWS):
        for table in images.iter_rows(np.arange(low, min(rows, low + _BATCH_ROWS))):
            hashes.append(_hashes(_plain_paths(table, roots)))
    ordered = np.sort(np.concatenate(hashes))
    return RelativePaths(roots, np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))


def _plain_paths(rows: pa.Table, roots: Iterable[str]) -> list[str]:
    prefixes = [prefix for root in roots for prefix in _prefixes(root)]
    has_exact = rows[LOCATION].is_valid().to_pylist() if LOCATION in rows.column_names else [False] * rows.num_rows
    whole = map(_whole_path, rows[IMAGE_URI].to_pylist(), exact_paths(rows), spans_of_entries(rows), has_exact)
    return [_safe_path(_below(path, prefixes)) for path in whole]


def _whole_path(uri: str, path: bytes, span: object, has_exact: bool) -> str:
    """Where an image is; a member of a container is a file in a folder of the container's name."""
    if span is None:
        return os.fsdecode(path) if has_exact else uri
    container = readable_path(path)
    return f"{container}/{uri[len(container) + 1 :]}" if uri.startswith(f"{container}#") else uri


def _prefixes(root: str) -> list[str]:
    """What paths of a source may begin with: the source, or the folder that it is in; up to the first wildcard."""
    place = re.split(r"/[^/]*[*?\[]", to_local_path(root) or root, maxsplit=1)[0].rstrip("/")
    return [f"{place}/", f"{place.rpartition('/')[0]}/"]


def _below(path: str, prefixes: Iterable[str]) -> str:
    for prefix in prefixes:
        if path.startswith(prefix) and prefix != "/":
            return path[len(prefix) :]
    return path.partition("://")[2] or path


def _safe_path(path: str) -> str:
    """No part leads elsewhere, and the folder of the audit stays ours."""
    parts = ["_" if part in (".", "..") else part.replace("\0", "_") for part in path.split("/") if part]
    if parts and parts[0] == AUDIT_FOLDER:
        parts[0] = f"_{AUDIT_FOLDER}"
    return "/".join(parts) or "_"


def _with_row_id(path: str, row_id: int) -> str:
    stem, extension = os.path.splitext(path)
    return f"{stem}-{row_id}{extension}"


def _hashes(paths: list[str]) -> npt.NDArray[np.uint64]:
    import pandas as pd

    encoded = np.array([os.fsencode(path).decode("latin-1") for path in paths], object)
    hashes: npt.NDArray[np.uint64] = pd.util.hash_array(encoded, categorize=False)
    return hashes
