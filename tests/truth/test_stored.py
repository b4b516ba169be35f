"""Stored truth is what was imported, field by field, and a newer format is refused."""

from __future__ import annotations

import io
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvbatch.errors import OutputError, UsageError
from cvbatch.storage.location import Location
from cvbatch.truth.base import Truth
from cvbatch.truth.labels import LabelTruth
from cvbatch.truth.objects import ObjectTruth
from cvbatch.truth.stored import STORED_CLASSES, STORED_OBJECTS, write_stored_truth

COMMON: dict[str, Any] = {
    "source": "labels.json",
    "layout": "COCO JSON",
    "image_names": ["a, b.jpg", "Größe/犬.jpg", "c.jpg"],
    "categories": ("dog", "犬, groß"),
    "notes": ("two notes", "of which this is one"),
}
OBJECTS = ObjectTruth(
    **COMMON,
    sizes=np.array([[40, 30], [30, 40], [0, 0]], np.int32),
    image_indices=np.array([0, 0, 2]),
    labels=np.array([1, 0, 1]),
    boxes=np.array([[0.1, 0.2, 3, 4], [1, 2, 3, 4.5], [0, 0, 1, 1]]),
    is_crowd=np.array([False, True, False]),
    areas=np.array([12, 13.5, 1]),
    segmentations=[[[0, 0, 4.5, 0, 4, 4]], {"size": [30, 40], "counts": "a\\b"}, None],
    keypoints=np.arange(18, dtype=np.float64).reshape(3, 2, 3),
)
BARE = replace(
    OBJECTS, sizes=None, areas=None, segmentations=None, keypoints=None, is_relative=True, has_suffixes=False
)
LVIS = replace(OBJECTS, image_facts=[{"neg_category_ids": [1]}, {}, {"neg_category_ids": []}], frequencies=("r", "f"))
NONE = OBJECTS.restrict(np.zeros(3, np.bool_))
CLASSES = LabelTruth(**COMMON, labels=np.array([0, 1, 0]))


def write(path: Path, truth: Truth) -> Location:
    with path.open("wb") as file:
        write_stored_truth(file, truth)
    return Location.from_uri(str(path))


@pytest.mark.parametrize("truth", [OBJECTS, BARE, LVIS, NONE, CLASSES], ids=["all", "bare", "lvis", "none", "classes"])
def test_truth_comes_back(tmp_path: Path, truth: Truth) -> None:
    location = write(tmp_path / "truth.parquet", truth)
    readers = [reader for reader in (STORED_OBJECTS, STORED_CLASSES) if reader.accepts(location)]
    assert len(readers) == 1
    read = readers[0].read(location)
    assert type(read) is type(truth)
    for field in fields(truth):
        expected, found = getattr(truth, field.name), getattr(read, field.name)
        if field.name == "source":
            assert found == str(location)
        elif truth is NONE and field.name in ("segmentations", "keypoints", "areas"):
            assert found is None or len(found) == 0
        elif isinstance(expected, np.ndarray):
            assert np.array_equal(found, expected), field.name
        else:
            assert found == expected, field.name


def test_objects_in_any_order_are_sorted_by_image(tmp_path: Path) -> None:
    mixed = replace(OBJECTS, image_indices=np.array([2, 0, 0]))
    read = STORED_OBJECTS.read(write(tmp_path / "truth.parquet", mixed))
    assert isinstance(read, ObjectTruth)
    assert read.image_indices.tolist() == [0, 0, 2]
    assert read.areas is not None
    assert read.areas.tolist() == [13.5, 1, 12]


def test_other_parquet_files_and_newer_formats(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a"], "label": ["dog"]}), tmp_path / "labels.parquet")
    other = Location.from_uri(str(tmp_path / "labels.parquet"))
    assert not STORED_OBJECTS.accepts(other)
    assert not STORED_CLASSES.accepts(other)
    with pytest.raises(UsageError, match="expected truth that 'cvbatch import' wrote"):
        STORED_OBJECTS.read(other)
    location = write(tmp_path / "truth.parquet", CLASSES)
    table = pq.read_table(location.uri)
    metadata = {b"cvbatch_truth": table.schema.metadata[b"cvbatch_truth"].replace(b'"1.0"', b'"2.0"')}
    pq.write_table(table.replace_schema_metadata(metadata), location.uri)
    with pytest.raises(OutputError, match=r"written with format 2.0, and this cvbatch reads up to 1.0"):
        STORED_CLASSES.read(location)


def test_truth_of_other_kinds_is_refused() -> None:
    with pytest.raises(UsageError, match="expected boxes, masks of objects, keypoints or classes"):
        write_stored_truth(io.BytesIO(), Truth(**COMMON))
