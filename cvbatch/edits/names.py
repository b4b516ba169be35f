"""The path of an image below the root of its source, as its edited file keeps it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.edits.target import AUDIT_FOLDER
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.planned_images import PlannedImages
from cvbatch.schema import IMAGE_URI, LOCATION, ROW_ID
from cvbatch.sources.entries import Span, exact_paths, readable_path, spans_of_entries
from cvbatch.sources.page_spans import split_page
from cvbatch.sources.suffixes import suffix_of
from cvbatch.storage.local_paths import to_local_path

_BATCH_ROWS: Final = 65_536
_TIFF_SUFFIXES: Final = ("tif", "tiff")
"""Of files whose pages are TIFFs; those of all others are PNGs."""


@dataclass(frozen=True, slots=True)
class RelativePaths:
    """Finds relative paths of images; no two of them are the same, also where one is written as JPEG."""

    roots: tuple[str, ...]
    """Locations of the sources."""
    repeated: npt.NDArray[np.uint64]
    """Sorted hashes of the paths that several images have; these get their row id in front of the extension."""
    taken: npt.NDArray[np.uint64]
    """Sorted hashes of the paths that another image would have if it were written as JPEG."""
    mark: str = "-"
    """Between a name and a row id."""

    def of_rows(self, rows: pa.Table) -> list[str]:
        """Relative paths of planned images, with `/` between parts; bytes that are not UTF-8 are surrogates."""
        paths = _plain_paths(rows, self.roots)
        is_repeated = np.isin(_hashes(paths), self.repeated).tolist()
        return [
            self._with_row_id(path, row_id) if again else path
            for path, row_id, again in zip(paths, rows[ROW_ID].to_pylist(), is_repeated, strict=True)
        ]

    def jpeg_paths(self, paths: Sequence[str], row_ids: Sequence[int]) -> list[str]:
        """The paths of images that are written as JPEG.

        Args:
            paths: From `of_rows`.
            row_ids: Of the same images.
        """
        jpegs = [f"{path}.jpg" for path in paths]
        if not len(self.taken):
            return jpegs
        is_taken = np.isin(_hashes(jpegs), self.taken).tolist()
        return [
            f"{self._with_row_id(path, row_id)}.jpg" if taken else jpeg
            for path, row_id, jpeg, taken in zip(paths, row_ids, jpegs, is_taken, strict=True)
        ]

    def _with_row_id(self, path: str, row_id: int) -> str:
        stem, extension = os.path.splitext(path)
        return f"{stem}{self.mark}{row_id}{extension}"


def find_relative_paths(opened: OpenedOutput, rows: int) -> RelativePaths:
    """Look through all planned images for paths that are not unique.

    Args:
        opened: The run.
        rows: Number of its images.
    """
    images = PlannedImages(opened)
    roots = tuple(images.job.source.uris)
    hashes, jpegs = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    for table in _iter_planned(images, rows):
        paths = _plain_paths(table, roots)
        hashes.append(_hashes(paths))
        jpegs.append(_hashes([f"{path}.jpg" for path in paths]))
    ordered, as_jpeg = np.sort(np.concatenate(hashes)), np.concatenate(jpegs)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    relative = RelativePaths(roots, repeated, np.unique(as_jpeg[np.isin(as_jpeg, ordered)]))
    while (len(relative.repeated) or len(relative.taken)) and not _are_distinct(relative, images, rows):
        relative = replace(relative, mark=f"{relative.mark}-")
    return relative


def _iter_planned(images: PlannedImages, rows: int) -> Iterator[pa.Table]:
    for low in range(0, rows, _BATCH_ROWS):
        yield from images.iter_rows(np.arange(low, min(rows, low + _BATCH_ROWS)))


def _are_distinct(paths: RelativePaths, images: PlannedImages, rows: int) -> bool:
    """Whether no image has a path that another one has, or would have if it were written as JPEG."""
    hashes = []
    for table in _iter_planned(images, rows):
        plain = paths.of_rows(table)
        hashes += [_hashes(plain), _hashes(paths.jpeg_paths(plain, table[ROW_ID].to_pylist()))]
    every = np.concatenate(hashes)
    return len(np.unique(every)) == len(every)


def _plain_paths(rows: pa.Table, roots: Sequence[str]) -> list[str]:
    prefixes = [prefix for root in roots for prefix in _prefixes(root, alone=len(roots) == 1)]
    has_exact = rows[LOCATION].is_valid().to_pylist() if LOCATION in rows.column_names else [False] * rows.num_rows
    whole = map(_whole_path, rows[IMAGE_URI].to_pylist(), exact_paths(rows), spans_of_entries(rows), has_exact)
    return [_safe_path(_below(path, prefixes)) for path in whole]


def _whole_path(uri: str, path: bytes, span: Span | None, has_exact: bool) -> str:
    """Where an image is; a member of a container, and a page of a file, is a file in a folder of its name."""
    if span is None:
        return os.fsdecode(path) if has_exact else uri
    file_span, page = split_page(span)
    file_uri = uri if page is None else uri.rpartition("#")[0]
    container = readable_path(path)
    place = f"{container}/{file_uri[len(container) + 1 :]}" if file_uri.startswith(f"{container}#") else file_uri
    if page is None:
        return place
    place = os.fsdecode(path) if file_span is None else place
    return f"{place}/page-{page}.{'tif' if suffix_of(os.fsencode(place)) in _TIFF_SUFFIXES else 'png'}"


def _prefixes(root: str, *, alone: bool) -> list[str]:
    """What paths of a source may begin with, up to the first wildcard: the source, or the folder that it is in.

    Each of several sources keeps its name, so that their images do not mix.
    """
    place = re.split(r"/[^/]*[*?\[]", to_local_path(root) or root, maxsplit=1)[0].rstrip("/")
    return [*([f"{place}/"] if alone else []), f"{place.rpartition('/')[0]}/"]


def _below(path: str, prefixes: Iterable[str]) -> str:
    for prefix in prefixes:
        if path.startswith(prefix) and prefix != "/":
            return path[len(prefix) :]
    return path.partition("://")[2] or path


def _safe_path(path: str) -> str:
    """No part leads elsewhere, and the folder of the audit stays ours."""
    parts = ["_" if part == ".." else part.replace("\0", "_") for part in path.split("/") if part not in ("", ".")]
    if parts and parts[0] == AUDIT_FOLDER:
        parts[0] = f"_{AUDIT_FOLDER}"
    return "/".join(parts) or "_"


def _hashes(paths: list[str]) -> npt.NDArray[np.uint64]:
    import pandas as pd

    encoded = np.array([os.fsencode(path).decode("latin-1") for path in paths], object)
    hashes: npt.NDArray[np.uint64] = pd.util.hash_array(encoded, categorize=False)
    return hashes
