"""Truth as a Parquet file of our own, with a format number: a row per image, with its objects or its class.

It holds what the other formats hold, so that corrected labels are read once and kept beside the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cvbatch.errors import UsageError
from cvbatch.schema import HEIGHT, WIDTH
from cvbatch.storage.buckets import open_bucket
from cvbatch.storage.location import Location
from cvbatch.system.formats import RecordFormat
from cvbatch.truth.base import Truth, TruthReader
from cvbatch.truth.labels import LabelTruth
from cvbatch.truth.objects import ObjectTruth

_LAYOUT: Final = "stored truth"
_KEY: Final = b"cvbatch_truth"
"""Of the metadata of the file, which holds a `StoredTruth`."""
_OBJECTS, _CLASSES = "objects", "classes"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTruth:
    """What is stored besides the rows."""

    kind: str
    """`objects` or `classes`."""
    layout: str
    """Format that it was imported from."""
    categories: tuple[str, ...]
    has_suffixes: bool = True
    is_relative: bool = False
    notes: tuple[str, ...] = field(default=())
    frequencies: tuple[str, ...] | None = None


TRUTH_FORMAT: Final = RecordFormat("truth", StoredTruth)
_OBJECT: Final = pa.struct(
    [
        pa.field("label", pa.int32()),
        pa.field("box", pa.list_(pa.float64(), 4)),
        pa.field("is_crowd", pa.bool_()),
        pa.field("area", pa.float64()),
        pa.field("segmentation", pa.string()),
        pa.field("keypoints", pa.list_(pa.float64())),
    ]
)
"""`box` is x, y, width, height; `segmentation` is COCO's, as JSON; `keypoints` x, y, v of each."""


def write_stored_truth(file: IO[bytes], truth: Truth) -> None:
    """Write truth about objects or classes.

    Args:
        file: Opened for writing.
        truth: What was read from another format.

    Raises:
        UsageError: If it is about something else, such as masks of whole images.
    """
    if isinstance(truth, ObjectTruth):
        table, kind = _object_rows(truth), _OBJECTS
        frequencies = None if truth.frequencies is None else tuple(truth.frequencies)
        is_relative = truth.is_relative
    elif isinstance(truth, LabelTruth):
        table, kind = _image_rows(truth, label=pa.array(truth.labels, pa.int32())), _CLASSES
        frequencies, is_relative = None, False
    else:
        raise UsageError(f"{truth.source}: expected boxes, masks of objects, keypoints or classes, got {truth.layout}")
    record = StoredTruth(
        kind=kind,
        layout=truth.layout,
        categories=truth.categories,
        has_suffixes=truth.has_suffixes,
        is_relative=is_relative,
        notes=truth.notes,
        frequencies=frequencies,
    )
    pq.write_table(table.replace_schema_metadata({_KEY: TRUTH_FORMAT.encode_record(record)}), file, compression="zstd")


def read_stored_truth(location: Location) -> Truth:
    """Read truth that `write_stored_truth` wrote.

    Raises:
        UsageError: If it is no such file, or of a newer format.
    """
    truth: Truth = _open_parquet(location, lambda file: _to_truth(location, file))
    return truth


def accepts_stored(kind: str) -> Callable[[Location], bool]:
    """Whether a location is stored truth of a kind."""

    def accepts(location: Location) -> bool:
        if not location.uri.lower().endswith(".parquet"):
            return False
        try:
            return bool(_open_parquet(location, _kind_of) == kind)
        except UsageError:
            return False

    return accepts


STORED_OBJECTS: Final = TruthReader(_LAYOUT, "truth.parquet", accepts_stored(_OBJECTS), read_stored_truth)
STORED_CLASSES: Final = TruthReader(_LAYOUT, "truth.parquet", accepts_stored(_CLASSES), read_stored_truth)


def _open_parquet(location: Location, use: Callable[[pq.ParquetFile], Any]) -> Any:
    try:
        if location.is_local:
            with pq.ParquetFile(location.uri) as file:
                return use(file)
        return use(pq.ParquetFile(pa.PythonFile(open_bucket(location).open_object(location.key), mode="r")))
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"{location}: expected a Parquet file; {str(error).splitlines()[0]}") from None


def _kind_of(file: pq.ParquetFile) -> str | None:
    content = (file.schema_arrow.metadata or {}).get(_KEY)
    return None if content is None else json.loads(content).get("kind")


def _to_truth(location: Location, file: pq.ParquetFile) -> Truth:
    content = (file.schema_arrow.metadata or {}).get(_KEY)
    if content is None:
        raise UsageError(f"{location}: expected truth that 'cvbatch import' wrote, got another Parquet file")
    record = TRUTH_FORMAT.decode_record(content, str(location))
    rows = file.read()
    sizes = np.stack([rows[name].to_numpy() for name in (WIDTH, HEIGHT)], axis=1).astype(np.int32)
    common: dict[str, Any] = {
        "source": str(location),
        "layout": record.layout,
        "image_names": rows["image"].to_pylist(),
        "has_suffixes": record.has_suffixes,
        "categories": record.categories,
        "sizes": sizes if sizes.any() else None,
        "notes": record.notes,
    }
    if record.kind == _CLASSES:
        return LabelTruth(**common, labels=rows["label"].to_numpy().astype(np.int64))
    return _to_objects(rows, record, common)


def _to_objects(rows: pa.Table, record: StoredTruth, common: dict[str, Any]) -> ObjectTruth:
    lists = rows["objects"].combine_chunks()
    fields = {name.name: column for name, column in zip(_OBJECT, pc.list_flatten(lists).flatten(), strict=True)}
    count = len(fields["label"])
    segmentations = [None if text is None else json.loads(text) for text in fields["segmentation"].to_pylist()]
    boxes = pc.list_flatten(fields["box"]).to_numpy(zero_copy_only=False).reshape(count, 4)
    has_areas = not fields["area"].null_count
    facts = [json.loads(text) for text in rows["facts"].to_pylist() if text is not None]
    return ObjectTruth(
        **common,
        image_indices=pc.list_parent_indices(lists).to_numpy().astype(np.int64),
        labels=fields["label"].to_numpy().astype(np.int64),
        boxes=boxes,
        is_crowd=fields["is_crowd"].to_numpy(zero_copy_only=False).astype(np.bool_),
        areas=fields["area"].to_numpy(zero_copy_only=False) if has_areas else None,
        segmentations=segmentations if any(value is not None for value in segmentations) else None,
        keypoints=_read_keypoints(fields["keypoints"]),
        is_relative=record.is_relative,
        image_facts=facts or None,
        frequencies=record.frequencies,
    )


def _read_keypoints(lists: pa.Array) -> Any:
    if not len(lists) or lists.null_count:
        return None
    return pc.list_flatten(lists).to_numpy(zero_copy_only=False).reshape(len(lists), -1, 3)


def _image_rows(truth: Truth, **columns: pa.Array) -> pa.Table:
    sizes = np.zeros((len(truth.image_names), 2), np.int32) if truth.sizes is None else truth.sizes
    names = pa.array(list(truth.image_names), pa.string())
    return pa.table({"image": names, WIDTH: pa.array(sizes[:, 0]), HEIGHT: pa.array(sizes[:, 1]), **columns})


def _object_rows(truth: ObjectTruth) -> pa.Table:
    order = np.argsort(truth.image_indices, kind="stable")
    counts = np.bincount(truth.image_indices, minlength=len(truth.image_names))
    segmentations = truth.segmentations or [None] * len(order)
    texts = [None if segmentations[row] is None else json.dumps(segmentations[row]) for row in order.tolist()]
    keypoints = None if truth.keypoints is None else [points.ravel().tolist() for points in truth.keypoints[order]]
    columns = [
        pa.array(truth.labels[order], pa.int32()),
        pa.FixedSizeListArray.from_arrays(pa.array(truth.boxes[order].ravel()), 4),
        pa.array(truth.is_crowd[order]),
        pa.nulls(len(order), pa.float64()) if truth.areas is None else pa.array(truth.areas[order]),
        pa.array(texts, pa.string()),
        pa.array([None] * len(order) if keypoints is None else keypoints, pa.list_(pa.float64())),
    ]
    objects = pa.StructArray.from_arrays(columns, fields=list(_OBJECT))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    facts = [None] * len(counts) if truth.image_facts is None else [json.dumps(fact) for fact in truth.image_facts]
    return _image_rows(truth, objects=pa.ListArray.from_arrays(offsets, objects), facts=pa.array(facts, pa.string()))
