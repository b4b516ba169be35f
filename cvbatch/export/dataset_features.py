"""The answers of each task as features of Hugging Face `datasets`, and as Arrow arrays of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from cvbatch.export.base import ImageBatch
from cvbatch.export.element_json import EDGES
from cvbatch.export.vectors import vector_columns
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import CLASSIFICATION, DETECTION, EMBEDDING, SEGMENTATION

Features: TypeAlias = dict[str, Any]
Arrays: TypeAlias = dict[str, pa.Array]
"""One value per image, by the name of the feature."""


class TaskFeatures(NamedTuple):
    """What a task becomes."""

    features: Callable[[ModuleType, ModelSpec], Features]
    """From the module `datasets` and a model."""
    arrays: Callable[[ImageBatch, ModelSpec], Arrays]


def class_names(model: ModelSpec) -> list[str]:
    """Names of all label ids, which must differ: label ids that are never emitted, and repeated names get their id."""
    names = list[str]()
    for label_id, name in enumerate(model.categories):
        name = f"unused {label_id}" if name is None else name
        names.append(f"{name} ({label_id})" if name in names else name)
    return names


def _label_features(datasets: ModuleType, model: ModelSpec) -> Features:
    return {"label": datasets.ClassLabel(names=class_names(model)), "score": datasets.Value("float32")}


def _label_arrays(batch: ImageBatch, model: ModelSpec) -> Arrays:
    positions = pa.array(batch.offsets[:-1], mask=np.diff(batch.offsets) == 0)
    labels = batch.elements.take(positions).combine_chunks()
    return {"label": _column(labels, "label_id").cast(pa.int64()), "score": _column(labels, "score")}


def _object_features(datasets: ModuleType, model: ModelSpec) -> Features:
    number = datasets.Value("float32")
    lists = {
        "bbox": datasets.List(datasets.List(number, length=4)),
        "category": datasets.List(datasets.ClassLabel(names=class_names(model))),
        "score": datasets.List(number),
    }
    if model.masks:
        lists["mask"] = datasets.List(datasets.Value("binary"))
    if model.keypoints:
        lists["keypoints"] = datasets.List(datasets.List(number))
    return {"objects": lists}


def _object_arrays(batch: ImageBatch, model: ModelSpec) -> Arrays:
    low_high = np.stack([_column(batch.elements, edge).to_numpy() for edge in EDGES], axis=1)
    boxes = np.concatenate([low_high[:, :2], low_high[:, 2:] - low_high[:, :2]], axis=1)
    columns = {
        "bbox": pa.FixedSizeListArray.from_arrays(pa.array(boxes.reshape(-1), pa.float32()), 4),
        "category": _column(batch.elements, "label_id").cast(pa.int64()),
    }
    others = [name for name in ("score", "mask", "keypoints") if name in batch.elements.column_names]
    return {"objects": _struct_of_lists(batch, columns | {name: _column(batch.elements, name) for name in others})}


def _segment_features(datasets: ModuleType, model: ModelSpec) -> Features:
    lists = {
        "category": datasets.List(datasets.ClassLabel(names=class_names(model))),
        "area": datasets.List(datasets.Value("float32")),
        "mask": datasets.List(datasets.Value("binary")),
    }
    return {"segments": lists}


def _segment_arrays(batch: ImageBatch, model: ModelSpec) -> Arrays:
    columns = {"category": _column(batch.elements, "label_id").cast(pa.int64())}
    columns |= {name: _column(batch.elements, name) for name in ("area", "mask")}
    return {"segments": _struct_of_lists(batch, columns)}


def _vector_features(datasets: ModuleType, model: ModelSpec) -> Features:
    return {"vector": datasets.List(datasets.Value("float32"))}


def _vector_arrays(batch: ImageBatch, model: ModelSpec) -> Arrays:
    (name,) = vector_columns(model)
    return {"vector": _column(batch.images, name).cast(pa.list_(pa.float32()))}


def _struct_of_lists(batch: ImageBatch, columns: Mapping[str, pa.Array]) -> pa.StructArray:
    offsets = pa.array(batch.offsets, pa.int32())
    return pa.StructArray.from_arrays(
        [pa.ListArray.from_arrays(offsets, values) for values in columns.values()], names=list(columns)
    )


def _column(table: pa.Table, name: str) -> pa.Array:
    array = table[name].combine_chunks()
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array


TASK_FEATURES: Final[Mapping[str, TaskFeatures]] = {
    CLASSIFICATION.name: TaskFeatures(_label_features, _label_arrays),
    DETECTION.name: TaskFeatures(_object_features, _object_arrays),
    SEGMENTATION.name: TaskFeatures(_segment_features, _segment_arrays),
    EMBEDDING.name: TaskFeatures(_vector_features, _vector_arrays),
}
