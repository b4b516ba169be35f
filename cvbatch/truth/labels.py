"""Truth with one class for each image: folders that are named after classes, or a table with a column of classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cvbatch.errors import UsageError
from cvbatch.sources.suffixes import ImageSuffixes
from cvbatch.storage.location import Location
from cvbatch.truth.base import Ints, Truth, TruthOptions, TruthReader
from cvbatch.truth.folders import iter_files
from cvbatch.truth.label_tables import accepts_table, read_label_columns

FOLDER_LAYOUT: Final = "a folder for each class"
TABLE_LAYOUT: Final = "a table of labels"


@dataclass(frozen=True, kw_only=True)
class LabelTruth(Truth):
    """One class for each image."""

    labels: Ints
    """(images,): position in `categories`."""

    @property
    def label_counts(self) -> list[int]:
        """How many images there are of each class."""
        return [int(count) for count in np.bincount(self.labels, minlength=len(self.categories))]


def read_label_folders(location: Location) -> LabelTruth:
    """Read a tree of folders: the first folder below the location is the class, as in torchvision's `ImageFolder`.

    Args:
        location: A folder on a disk or in a bucket.

    Raises:
        UsageError: If no image lies in a folder.
    """
    is_image = ImageSuffixes().is_image
    paths = [path for path in iter_files(location) if is_image(os.fsencode(path))]
    labelled = [(path, path.split("/")[0]) for path in paths if "/" in path]
    if not labelled:
        got = f"{len(paths)} images without one, such as {paths[0]}" if paths else "no image"
        raise UsageError(f"{location}: expected images in folders named after classes, such as cat/1.jpg; got {got}")
    others = len(paths) - len(labelled)
    notes = [f"{others} images lie in no folder of {location}, so they have no class"] if others else []
    root = location.uri.rstrip("/")
    names = [f"{root}/{path}" for path, _ in labelled]
    return _make_truth(location, FOLDER_LAYOUT, names, [label for _, label in labelled], notes)


def read_label_table(location: Location, options: TruthOptions | None = None) -> LabelTruth:
    """Read a CSV, Parquet or JSONL file with a column of images and a column of classes.

    Args:
        location: A file on a disk or in a bucket.
        options: Names of the columns.

    Raises:
        UsageError: If it cannot be read, or has no such columns.
    """
    columns = read_label_columns(location, options)
    images = [(name, label) for name, label in zip(columns.images, columns.labels, strict=True) if label and name]
    missing = len(columns.images) - len(images)
    notes = [f"images are in column {columns.image_column!r}, classes in {columns.label_column!r}"]
    if missing:
        notes.append(f"{missing:,} rows of {location} have no image or no class, and take no part")
    layout = TABLE_LAYOUT
    return _make_truth(location, layout, [name for name, _ in images], [str(label) for _, label in images], notes)


def _make_truth(
    location: Location, layout: str, names: Sequence[str], labels: Sequence[str], notes: Sequence[str]
) -> LabelTruth:
    categories, positions = np.unique(np.array(labels, object), return_inverse=True)
    return LabelTruth(
        source=str(location),
        layout=layout,
        image_names=names,
        categories=tuple(categories.tolist()),
        labels=positions.astype(np.int64),
        notes=tuple(notes),
    )


def _accepts_folders(location: Location) -> bool:
    return Path(location.uri).is_dir() if location.is_local else not accepts_table(location)


LABEL_READERS: Final[Sequence[TruthReader]] = (
    TruthReader(TABLE_LAYOUT, "labels.csv, labels.parquet or labels.jsonl", accepts_table, read_label_table, True),
    TruthReader(FOLDER_LAYOUT, "val/ with val/cat/1.jpg", _accepts_folders, read_label_folders),
)
"""File formats of truth for classification."""
