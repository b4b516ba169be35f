"""The answers of each task as labels of FiftyOne, in JSON."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.export.base import ImageBatch
from cvbatch.export.element_json import EDGES
from cvbatch.export.json_text import Text, arrays_to_json, encode_json, lists_to_json, objects_to_json, texts_to_json
from cvbatch.export.nested_json import values_to_json
from cvbatch.export.texts import numbers_to_text
from cvbatch.export.vectors import vector_columns
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import CLASSIFICATION, DETECTION, EMBEDDING, SEGMENTATION
from cvbatch.tasks.masks import decode_mask

_MAX_BYTE: Final = 255


class TaskLabels(NamedTuple):
    """What a task becomes."""

    make_fields: Callable[[ImageBatch, ModelSpec], dict[str, Text]]
    """A JSON value of each image, by the name of the field."""
    describe: Callable[[ModelSpec], Mapping[str, Any]]
    """What belongs to the whole dataset."""


def _make_classification(batch: ImageBatch, model: ModelSpec) -> dict[str, Text]:
    labels = objects_to_json({"_cls": '"Classification"', **_label_and_score(batch)})
    positions = pa.array(batch.offsets[:-1], mask=np.diff(batch.offsets) == 0)
    return {model.alias: pc.fill_null(labels.take(positions), "null")}


def _make_detections(batch: ImageBatch, model: ModelSpec) -> dict[str, Text]:
    edges = np.stack([batch.elements[edge].to_numpy() for edge in EDGES], axis=1).astype(np.float64)
    sizes = np.tile(batch.sizes[batch.image_indices], 2).astype(np.float64)
    masks = {}
    if "mask" in batch.elements.column_names:
        # the pixels of a mask fill its box, so the box must end where pixels end
        edges = np.clip(np.concatenate([np.floor(edges[:, :2]), np.ceil(edges[:, 2:])], axis=1), 0, sizes)
        masks = {"mask": _cropped_masks(batch, edges.astype(np.int64))}
    shares = edges / sizes
    boxes = np.concatenate([shares[:, :2], shares[:, 2:] - shares[:, :2]], axis=1)
    box_texts = arrays_to_json([numbers_to_text(np.ascontiguousarray(column)) for column in boxes.T])
    detections = objects_to_json({"_cls": '"Detection"', **_label_and_score(batch), "bounding_box": box_texts, **masks})
    fields = {model.alias: _list_label(batch, "Detections", "detections", detections)}
    if "keypoints" in batch.elements.column_names:
        fields[f"{model.alias}_keypoints"] = _make_keypoints(batch)
    return fields


def _make_keypoints(batch: ImageBatch) -> Text:
    points, scores = list[str](), list[str]()
    shapes = batch.sizes[batch.image_indices].tolist()
    for values, shape in zip(batch.elements["keypoints"].to_pylist(), shapes, strict=True):
        rows = np.asarray(values, np.float64).reshape(-1, 3)
        points.append(encode_json((rows[:, :2] / shape).tolist()))
        scores.append(encode_json(rows[:, 2].tolist()))
    label = _label_and_score(batch)["label"]
    texts = objects_to_json(
        {"_cls": '"Keypoint"', "label": label, "points": pa.array(points), "confidence": pa.array(scores)}
    )
    return _list_label(batch, "Keypoints", "keypoints", texts)


def _make_segmentation(batch: ImageBatch, model: ModelSpec) -> dict[str, Text]:
    label_ids = batch.elements["label_id"].to_numpy() + _first_target(model)
    kind = np.uint8 if len(model.categories) <= _MAX_BYTE else np.uint16
    masks = list[str]()
    for position, (width, height) in enumerate(batch.sizes.tolist()):
        painted = np.zeros((height, width), kind)
        for element in range(batch.offsets[position], batch.offsets[position + 1]):
            painted[decode_mask(batch.elements["mask"][element].as_py(), height, width)] = label_ids[element]
        masks.append(_encode_array(painted))
    return {model.alias: objects_to_json({"_cls": '"Segmentation"', "mask": pa.array(masks, pa.string())})}


def _describe_targets(model: ModelSpec) -> Mapping[str, Any]:
    first = _first_target(model)
    targets = {label_id + first: name for label_id, name in enumerate(model.categories) if name is not None}
    return {"default_mask_targets": targets}


def _first_target(model: ModelSpec) -> int:
    """What label id 0 becomes: FiftyOne takes the value 0 for the background."""
    return 0 if not model.categories or model.categories[0] is None else 1


def _make_vector(batch: ImageBatch, model: ModelSpec) -> dict[str, Text]:
    (name,) = vector_columns(model)
    return {model.alias: values_to_json(batch.images[name].combine_chunks())}


def _describe_classes(model: ModelSpec) -> Mapping[str, Any]:
    return {"default_classes": [name for name in model.categories if name is not None]}


def _label_and_score(batch: ImageBatch) -> dict[str, Text]:
    label, score = (batch.elements[name].combine_chunks() for name in ("label", "score"))
    return {"label": texts_to_json(label), "confidence": values_to_json(score)}


def _list_label(batch: ImageBatch, kind: str, name: str, texts: Text) -> Text:
    return objects_to_json({"_cls": f'"{kind}"', name: lists_to_json(texts, batch.offsets)})


def _cropped_masks(batch: ImageBatch, boxes: npt.NDArray[np.int64]) -> Text:
    shapes, counts = batch.sizes[batch.image_indices].tolist(), batch.elements["mask"]
    texts = [
        _encode_array(decode_mask(mask.as_py(), height, width)[y_min:y_max, x_min:x_max])
        for mask, (width, height), (x_min, y_min, x_max, y_max) in zip(counts, shapes, boxes.tolist(), strict=True)
    ]
    return pa.array(texts, pa.string())


def _encode_array(array: npt.NDArray[Any]) -> str:
    """An array as JSON text in the way of FiftyOne: NumPy's format, compressed, base64."""
    with io.BytesIO() as file:
        np.save(file, array, allow_pickle=False)
        return f'"{base64.b64encode(zlib.compress(file.getvalue())).decode()}"'


def _describe_nothing(model: ModelSpec) -> Mapping[str, Any]:
    return {}


TASK_LABELS: Final[Mapping[str, TaskLabels]] = {
    CLASSIFICATION.name: TaskLabels(_make_classification, _describe_classes),
    DETECTION.name: TaskLabels(_make_detections, _describe_classes),
    SEGMENTATION.name: TaskLabels(_make_segmentation, _describe_targets),
    EMBEDDING.name: TaskLabels(_make_vector, _describe_nothing),
}
