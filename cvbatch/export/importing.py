"""Imports corrected labels as truth for `cvbatch evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, Final

from cvbatch.errors import UsageError
from cvbatch.export.targets import open_target
from cvbatch.results.committed import Output, Storage
from cvbatch.results.where import unknown_name
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from cvbatch.truth.base import Truth
from cvbatch.truth.labels import LabelTruth
from cvbatch.truth.objects import ObjectTruth
from cvbatch.truth.stored import write_stored_truth

IMPORT_FORMATS: Final[Mapping[str, str]] = {
    "coco": "coco_json:read_coco_json",
    "label-studio": "label_studio:read_label_studio",
    "cvat": "cvat_xml:read_cvat_xml",
    "yolo": "yolo_folder:read_yolo_folder",
    "voc": "voc_folder:read_voc_folder",
}
"""By name, `module:function` below `cvbatch.truth`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What was imported."""

    format: str
    path: str
    images: int
    objects: int
    """Objects, or images with a class."""
    categories: Mapping[str, int]
    """How many there are of each."""
    notes: tuple[str, ...]
    """Sentences about what takes no part, and why."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def import_labels(path: Output, format: str, to: Output, *, storage: Storage = None) -> ImportReport:
    """Read labels that people made or corrected, and store them as truth.

    Args:
        path: A file or folder of a labelling tool; a path or a URI of a bucket.
        format: One of `IMPORT_FORMATS`.
        to: New Parquet file for `cvbatch.evaluate(…, truth=…)`.
        storage: Options for an object store, as for `read`.

    Raises:
        UsageError: If the format is not known, or the labels do not parse.
        OutputError: If there is something at `to`.
    """
    if format not in IMPORT_FORMATS:
        raise UsageError(unknown_name("format", format, list(IMPORT_FORMATS)))
    options = StorageOptions.from_mapping(storage or {})
    source, target = (Location.from_path_or_uri(given, options) for given in (path, to))
    if not target.uri.endswith(".parquet"):
        raise UsageError(f"{target}: expected a name that ends with .parquet, such as truth.parquet")
    module, _, name = IMPORT_FORMATS[format].partition(":")
    read: Callable[[Location], Truth] = getattr(import_module(f"cvbatch.truth.{module}"), name)
    truth = read(source)
    counts = _label_counts(truth)
    with open_target(target, is_folder=False) as opened, opened.open_file() as file:
        write_stored_truth(file, truth)
    return ImportReport(
        format=format,
        path=str(target),
        images=len(truth.image_names),
        objects=sum(counts),
        categories={name: count for name, count in zip(truth.categories, counts, strict=True) if count},
        notes=truth.notes,
    )


def _label_counts(truth: Truth) -> list[int]:
    return truth.label_counts if isinstance(truth, ObjectTruth | LabelTruth) else [0] * len(truth.categories)
