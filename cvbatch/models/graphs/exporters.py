"""What known exporters write into their files: names of classes, sizes, tasks, and names of outputs."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from cvbatch.errors import ModelError, try_call
from cvbatch.models.graphs.graph import Graph
from cvbatch.models.graphs.keys import GraphKeys
from cvbatch.tasks import CLASSIFICATION, DETECTION

_CLASS_KEYS: Final = ("names", "class_names", "classes", "labels", "categories", "id2label")
_LICENCE_KEYS: Final = ("license", "licence")
_TRUE: Final = ("true", "1")
_ULTRALYTICS_TASKS: Final = {
    "detect": DETECTION.name,
    "segment": DETECTION.name,
    "pose": DETECTION.name,
    "classify": CLASSIFICATION.name,
}
_REASONS: Final = {"obb": ": oriented boxes have no column, which holds upright ones"}
_NANODET: Final = "cls_pred_stride_"
_RT_DETR: Final = "rtdetr"
_RF_DETR: Final = {"dets", "labels"}
_DETR: Final = {"logits", "pred_boxes"}


def keys_of_exporter(graph: Graph) -> GraphKeys:
    """Read what a file says of itself.

    Args:
        graph: The graph.

    Raises:
        ModelError: It is made for a task that does not exist here.
    """
    said: dict[str, Any] = {}
    names = {output.name for output in graph.outputs}
    if "stride" in graph.metadata and "names" in graph.metadata:
        said = _ultralytics_keys(graph)
    elif any(name.startswith(_NANODET) for name in names):
        said = {"task": DETECTION.name, "preprocess": "nanodet", "head": "nanodet"}
    elif (names >= _RF_DETR and "scores" not in names) or names >= _DETR:
        said = {"task": DETECTION.name, "preprocess": "detr", "head": "detr"}
    classes = next((graph.metadata[key] for key in _CLASS_KEYS if graph.metadata.get(key)), None)
    licence = next((graph.metadata[key] for key in _LICENCE_KEYS if graph.metadata.get(key)), None)
    if classes is not None and (categories := _parse_classes(classes)):
        said["categories"] = categories
    if licence is not None:
        said["licence"] = licence
    return GraphKeys(**said)


def _ultralytics_keys(graph: Graph) -> dict[str, Any]:
    """Keys of files of Ultralytics, and of YOLOv5, whose exporter writes only `stride` and `names`."""
    metadata = graph.metadata
    task = metadata.get("task", "detect")
    if task not in _ULTRALYTICS_TASKS:
        raise ModelError(
            f"{graph.name}: it was exported for the task {task!r}{_REASONS.get(task, '')}: expected "
            f"{', '.join(_ULTRALYTICS_TASKS)}"
        )
    size = _parse_literal(metadata.get("imgsz", ""))
    sizes = {"size": (size, size) if isinstance(size, int) else tuple(size)} if size else {}
    fixed = any(length is not None for tensor in graph.inputs for length in tensor.shape[2:])
    said: dict[str, Any] = {"task": _ULTRALYTICS_TASKS[task], **({} if fixed else sizes)}
    if said["task"] == CLASSIFICATION.name:
        resize = {"resize": min(sizes["size"])} if sizes else {}
        return {**said, "preprocess": "unit", "fit": "crop", **resize}
    points = _parse_literal(metadata.get("kpt_shape", ""))
    if isinstance(points, list | tuple):
        said["keypoints"] = tuple(points)
    arguments = _parse_literal(metadata.get("args", ""))
    has_nms = isinstance(arguments, Mapping) and bool(arguments.get("nms"))
    if has_nms or metadata.get("end2end", "").lower() in _TRUE:
        said["head"] = "rows"
    elif any(_RT_DETR in metadata.get(key, "").lower().replace("-", "") for key in ("head", "description")):
        said |= {"head": "yolo", "fit": "stretch", "box_units": "fractions", "overlap": False}
    stride = _parse_literal(metadata["stride"])
    return {**said, "preprocess": "yolo", **({"stride": stride} if isinstance(stride, int) and sizes else {})}


def _parse_classes(text: str) -> tuple[str, ...] | dict[int, str]:
    """Names of classes from a literal of Python, from JSON, or with commas between; empty if it is none of these."""
    value = _parse_literal(text)
    if isinstance(value, Mapping):
        by_id = try_call(lambda: {int(key): str(name) for key, name in value.items()})
        return {} if isinstance(by_id, Exception) else by_id
    if isinstance(value, list | tuple):
        return tuple(map(str, value))
    return tuple(name.strip() for name in text.split(",")) if "," in text else ()


def _parse_literal(text: str) -> Any:
    parsers: tuple[Callable[[str], Any], ...] = (ast.literal_eval, json.loads)
    results = (try_call(lambda parser=parser: parser(text)) for parser in parsers)  # type: ignore[misc]
    return next((result for result in results if not isinstance(result, Exception)), None)
