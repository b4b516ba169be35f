"""Images and truth of a training brought together: which image has which truth, and which are for validation."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.config.train_job import SplitConfig, TrainJob
from cvbatch.errors import JobError, UsageError
from cvbatch.schema import CONTENT_SHA256, IMAGE_URI, ROW_ID
from cvbatch.sources.entries import ImageSource
from cvbatch.training.images import GREY
from cvbatch.training.near_images import group_near_images
from cvbatch.training.split import Bools, choose_validation
from cvbatch.training.target_column import Targets
from cvbatch.truth.base import Truth
from cvbatch.truth.files import read_lines
from cvbatch.truth.image_names import last_parts, normalize_paths
from cvbatch.truth.matching import match_images

_FOLDER: Final = "folder"


def split_columns(source: ImageSource, split: SplitConfig) -> list[str]:
    """Extra columns of the source that the split needs.

    Raises:
        JobError: If the source has no such column.
    """
    if split.by is None or split.by == _FOLDER:
        return []
    if split.by not in source.extra_columns.names:
        known = ", ".join((_FOLDER, *source.extra_columns.names))
        raise JobError(f"split.by: expected one of {known}, got {split.by!r}")
    return [split.by]


def match_truth(images: pa.Table, truth: Truth) -> tuple[pa.Table, npt.NDArray[np.int64], list[str]]:
    """Find the truth of each image.

    Args:
        images: With their locations and contents.
        truth: Has the names.

    Returns:
        The images that the truth knows, numbered anew; the position of each in the truth; sentences about the rest.

    Raises:
        UsageError: If the truth knows none, or a name fits several.
    """
    matches, matched_by = match_images(truth, images)
    known = np.flatnonzero(matches >= 0)
    if not len(known):
        raise UsageError(
            f"{truth.source}: expected truth about images of the source, such as {images[IMAGE_URI][0]}; got "
            f"{truth.example(0)}, and no name fits any image; give the truth of these images"
        )
    notes = [f"images are matched by {matched_by}"]
    if len(known) < len(matches):
        unknown = images[IMAGE_URI][int(np.flatnonzero(matches < 0)[0])]
        notes.append(f"{len(matches) - len(known):,} images have no truth and take no part, such as {unknown}")
    without = np.setdiff1d(np.arange(len(truth.image_names)), matches)
    if len(without):
        example = truth.example(int(without[0]))
        notes.append(f"{len(without):,} names of the truth fit no image of the source, such as {example}")
    kept = images.take(pa.array(known)).drop_columns([ROW_ID])
    return kept.append_column(ROW_ID, pa.array(range(len(known)), pa.int64())), matches[known], notes


def split_images(images: pa.Table, targets: Targets, job: TrainJob) -> Bools:
    """Which images are for validation.

    Args:
        images: With their content and the columns of `split_columns`.
        targets: Of these images.
        job: Says how to split.

    Raises:
        UsageError: If nothing remains to learn from, or to validate with.
    """
    is_validation = _choose_side(images, targets, job)
    _check_sides(is_validation, targets, job)
    return is_validation


def _choose_side(images: pa.Table, targets: Targets, job: TrainJob) -> Bools:
    uris = images[IMAGE_URI]
    if job.split.file is not None:
        return _listed_images(images, job.split.file)
    if job.split.by is None:
        contents = images[CONTENT_SHA256].to_pylist()
        thumbnails = np.frombuffer(b"".join(images[GREY].to_pylist()), np.uint8).reshape(len(contents), -1)
        keys, strata = group_near_images(contents, thumbnails), targets.strata
    elif job.split.by == _FOLDER:
        keys = [str(PurePosixPath(uri.replace("#", "/")).parent) for uri in uris.to_pylist()]
        strata = np.zeros(len(keys), np.int64)
    else:
        keys = [str(value) for value in images[job.split.by].to_pylist()]
        strata = np.zeros(len(keys), np.int64)
    return choose_validation(keys, strata, job.split.validation, job.seed)


def _listed_images(images: pa.Table, file: str) -> Bools:
    """The images that a text file names, by as many last parts of the path as a line has."""
    lines = [line.strip() for line in read_lines(Path(file)) if line.strip()]
    names = normalize_paths(pa.array(lines, pa.string()), keep_suffix=True)
    paths = normalize_paths(images[IMAGE_URI].combine_chunks(), keep_suffix=True)
    chosen = np.zeros(images.num_rows, np.bool_)
    for parts in sorted({name.count("/") + 1 for name in names.to_pylist()}):
        wanted = pa.array([name for name in names.to_pylist() if name.count("/") + 1 == parts])
        chosen |= np.isin(np.asarray(last_parts(paths, parts)), np.asarray(wanted))
    if not chosen.any():
        raise UsageError(f"split.file: {file}: expected names of images, got {lines[0] if lines else 'an empty file'}")
    return chosen


def _check_sides(is_validation: Bools, targets: Targets, job: TrainJob) -> None:
    """Refuse a split with nothing to learn from, or nothing to validate with."""
    for side, is_empty in (("validation", not is_validation.any()), ("training", bool(is_validation.all()))):
        if is_empty:
            raise UsageError(
                f"split: no image is left for {side} of {len(is_validation):,}; add images, or change split.validation "
                f"({job.split.validation:g}) or split.by"
            )
