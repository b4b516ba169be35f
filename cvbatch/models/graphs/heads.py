"""Recognise what the outputs of a graph mean, by their names and shapes, and by what keys say.

| head | outputs |
|---|---|
| `scores` | (images, classes) |
| `vector` | (images, dimension), or with positions, over which the mean is taken |
| `pixel_scores` | (images, classes, height, width) |
| `class_map` | whole numbers, (images, height, width) |
| `yolo` | (images, 4 + classes, boxes), as YOLOv8 and 11; + 32 with prototypes, + 3 for each keypoint |
| `yolov5` | (images, boxes, 5 + classes), as YOLOv5 and 7: there is a score for any object, too |
| `rows` | (images, boxes, 6): corners, score, label id; of YOLOv10, YOLO26, and others with suppression in the graph |
| `boxes` | (images, boxes, 4), and scores, (images, boxes, classes), or scores and labels, (images, boxes) |
| `detr` | as `boxes`, of queries: fractions of the image, without suppression |
| `nanodet` | probabilities, and logits of distances in bins, of one output or of one pair for each stride |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cvbatch.errors import ModelError
from cvbatch.models.graphs import box_heads
from cvbatch.models.graphs.graph import Graph, GraphTensor
from cvbatch.models.graphs.keys import GraphKeys
from cvbatch.tasks import CLASSIFICATION, DETECTION, EMBEDDING, SEGMENTATION

_WHOLE: Final = ("int64", "int32", "uint8", "int8", "bool")


@dataclass(frozen=True, slots=True)
class HeadFacts:
    """What the outputs say of a model."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `GraphReading`."""
    masks: bool = False
    keypoints: bool = False
    dimension: int | None = None


def recognise_head(graph: Graph, keys: GraphKeys, task: str, names: int | None) -> HeadFacts:
    """Find out how the outputs are read.

    Args:
        graph: The graph, with shapes of its outputs.
        keys: All that is known.
        task: Name of the task.
        names: Number of categories; None if they are not known yet.

    Raises:
        ModelError: The outputs are not known; the message lists them.
    """
    for role, name in (keys.outputs or {}).items():
        if name not in {output.name for output in graph.outputs}:
            raise ModelError(
                f"{graph.name}: outputs.{role}: there is no output {name!r}: found {graph.describe_outputs()}"
            )
    recognise = {
        CLASSIFICATION.name: _score_head,
        EMBEDDING.name: _vector_head,
        SEGMENTATION.name: _segment_head,
        DETECTION.name: box_heads.recognise_boxes,
    }.get(task)
    fields = None if recognise is None else recognise(graph, keys, names)
    if fields is None:
        raise ModelError(
            f"{graph.name}: its outputs are not known for {task}: found {graph.describe_outputs()}; describe them with "
            f"{_HINTS.get(task, 'task:')}"
        )
    masks = bool(fields["outputs"].keys() & {box_heads.PROTOTYPES, box_heads.MASKS})
    dimension = fields["classes"] if task == EMBEDDING.name else None
    keypoints = fields.get("keypoints") is not None
    return HeadFacts({**fields, "classes": None if dimension else fields["classes"]}, masks, keypoints, dimension)


_HINTS: Final = {
    CLASSIFICATION.name: "outputs: {scores: NAME} and scores: logits or probabilities",
    EMBEDDING.name: "outputs: {vector: NAME}",
    SEGMENTATION.name: "head: pixel_scores or class_map, and outputs: {scores: NAME}",
    DETECTION.name: (
        "head: yolo, yolov5, rows, boxes, detr or nanodet, outputs: {boxes: NAME, scores: NAME, labels: NAME}, "
        "box_format:, box_units: and categories:"
    ),
}


def _chosen(graph: Graph, keys: GraphKeys, role: str) -> list[GraphTensor]:
    """The output that keys name for a role, or else all."""
    name = (keys.outputs or {}).get(role)
    return [output for output in graph.outputs if name in (None, output.name)]


def _score_head(graph: Graph, keys: GraphKeys, names: int | None) -> dict[str, Any] | None:
    outputs = [output for output in _chosen(graph, keys, "scores") if _is_vector(output)]
    fitting = [output for output in outputs if output.shape[1] == names]
    if len(fitting or outputs) != 1:
        return None
    (output,) = fitting or outputs
    logits = keys.scores in ("logits", "softmax") or (keys.scores is None and output.name not in graph.finished)
    scores = "sigmoid" if keys.scores == "sigmoid" else "softmax" if logits else "probabilities"
    return {"head": "scores", "outputs": {"scores": output.name}, "scores": scores, "classes": output.shape[1]}


def _vector_head(graph: Graph, keys: GraphKeys, names: int | None) -> dict[str, Any] | None:
    outputs = [output for output in _chosen(graph, keys, "vector") if _is_vector(output) or len(output.shape) == 4]
    if len(outputs) != 1 or outputs[0].shape[1] is None:
        return None
    return {"head": "vector", "outputs": {"vector": outputs[0].name}, "classes": outputs[0].shape[1]}


def _is_vector(output: GraphTensor) -> bool:
    """Whether an output has one row of numbers for each image."""
    return len(output.shape) >= 2 and output.dtype not in _WHOLE and all(length == 1 for length in output.shape[2:])


def _segment_head(graph: Graph, keys: GraphKeys, names: int | None) -> dict[str, Any] | None:
    outputs = _chosen(graph, keys, "scores")
    maps = [output for output in outputs if output.dtype in _WHOLE and len(output.shape) in (3, 4)]
    if keys.head != "pixel_scores" and len(maps) == 1:
        return {"head": "class_map", "outputs": {"scores": maps[0].name}, "classes": None}
    images = [output for output in outputs if len(output.shape) == 4 and output not in maps]
    fitting = [output for output in images if names in (output.shape[1], output.shape[3])]
    if not (fitting or images) or keys.head == "class_map":
        return None
    output = (fitting or images)[0]  # torchvision's auxiliary output comes second
    last = output.shape[3] if output.shape[3] == names and output.shape[1] != names else None
    return {"head": "pixel_scores", "outputs": {"scores": output.name}, "classes": last or output.shape[1]}
