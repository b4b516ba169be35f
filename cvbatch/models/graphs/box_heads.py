"""Recognise outputs with boxes; `cvbatch.models.graphs.heads` lists the heads."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from typing import Any, Final

from cvbatch.models.graphs.graph import Graph, GraphTensor
from cvbatch.models.graphs.keys import GraphKeys

PROTOTYPES: Final = "prototypes"
MASKS: Final = "masks"
_BOXES, _SCORES, _LABELS = "boxes", "scores", "labels"
_MOST_ROWS: Final = 1000
"""More rows of six numbers are those of YOLOv5 with one class."""
_YOLO_OVERLAP: Final = 0.7
_YOLOV5_OVERLAP: Final = 0.45
_NANODET_OVERLAP: Final = 0.6
_OTHER_OVERLAP: Final = 0.5
"""What the reference implementations of these heads use."""
_WHOLE: Final = ("int64", "int32", "uint8")
_LABEL_NAMES: Final = ("label", "class")
_KNOWN_PAIRS: Final[Mapping[str, Mapping[str, Any]]] = {
    "detection_boxes": {"box_format": "yxyx", "box_units": "fractions"},
}
"""Formats by the name of the boxes; of TensorFlow's Object Detection API."""
_NANODET_PREFIXES: Final = ("cls_pred_stride_", "dis_pred_stride_")
_BOX_NAMES: Final = ("box", "det", "reg")


def recognise_boxes(graph: Graph, keys: GraphKeys, names: int | None) -> dict[str, Any] | None:
    """Fields of `GraphReading` for outputs with boxes; None if they are not known."""
    fields = _recognise(graph, keys, names)
    if fields is None:
        return None
    for name in ("box_format", "box_units"):
        if (value := getattr(keys, name)) is not None:
            fields[name] = value
    if keys.scores is not None:
        fields["scores"] = "sigmoid" if keys.scores == "logits" else keys.scores
    if keys.overlap is not None:
        fields["overlap"] = keys.overlap or None
    return fields


def _recognise(graph: Graph, keys: GraphKeys, names: int | None) -> dict[str, Any] | None:
    if keys.head is not None:
        recognise = _RECOGNISERS.get(keys.head)
        return _single_fields(graph, keys, keys.head, names) if recognise is None else recognise(graph, keys, names)
    if (pair := _pair_fields(graph, keys, names)) is not None:
        return pair
    candidates = [_single_fields(graph, keys, head, names) for head in ("rows", "yolo", "yolov5")]
    known = [fields for fields in candidates if fields is not None]
    fitting = [fields for fields in known if fields["classes"] in (None, names)]
    # of a known exporter, the number of classes is wrong, and not the head
    return next(iter(fitting or (known if keys.preprocess == "yolo" else [])), None)


def _single_fields(graph: Graph, keys: GraphKeys, head: str, names: int | None) -> dict[str, Any] | None:
    """Fields of the heads that have all in one output, with prototypes in a second one."""
    given = keys.outputs or {}
    outputs = [output for output in graph.outputs if given.get(_BOXES) in (None, output.name)]
    boxes = next((output for output in outputs if len(output.shape) == 3), None)
    images = [output for output in graph.outputs if given.get(PROTOTYPES) in (None, output.name)]
    prototypes = next((output for output in images if len(output.shape) == 4), None)
    if boxes is None:
        return None
    coefficients = 0 if prototypes is None else prototypes.shape[1] or 0
    if keys.keypoints is not None:
        coefficients += math.prod(keys.keypoints)
    roles = {_BOXES: boxes.name, **({} if prototypes is None else {PROTOTYPES: prototypes.name})}
    points = {} if keys.keypoints is None else {"keypoints": keys.keypoints}
    if head == "rows":
        fits = boxes.shape[2] == 6 + coefficients and (boxes.shape[1] or 0) <= _MOST_ROWS
        return {"head": head, "outputs": roles, "classes": None, **points} if fits else None
    before = 4 if head == "yolo" else 5
    lengths = [length for length in boxes.shape[1:] if length is not None]
    wanted = None if names is None else before + names + coefficients
    length = wanted if wanted in lengths else min(lengths, default=0)
    if length <= before + coefficients:
        return None
    overlap = _YOLO_OVERLAP if head == "yolo" else _YOLOV5_OVERLAP
    common = {"box_format": "cxcywh", "best_class": True, "overlap": overlap, **points}
    return {"head": head, "outputs": roles, "classes": length - before - coefficients, **common}


def _pair_fields(graph: Graph, keys: GraphKeys, names: int | None) -> dict[str, Any] | None:
    """Fields of boxes and scores in outputs of their own."""
    roles = _find_roles(graph, keys.outputs or {})
    by_name = {output.name: output for output in graph.outputs}
    if not {_BOXES, _SCORES} <= roles.keys():
        return None
    scores = by_name[roles[_SCORES]]
    classes = None if _LABELS in roles else scores.shape[-1]
    has_one_more = names is not None and classes == names + 1  # a background, or no object: one of all applies
    unfinished = "softmax" if has_one_more else "sigmoid"
    kind = "probabilities" if scores.name in graph.finished or _LABELS in roles else unfinished
    fields: dict[str, Any] = {"head": "boxes", "outputs": roles, "classes": classes, "scores": kind}
    if keys.head == "detr":
        queries = {"box_format": "cxcywh", "box_units": "fractions", "overlap": None}
        return {**fields, **queries, "last_is_background": has_one_more, "best_class": has_one_more}
    fields["overlap"] = None if _LABELS in roles else _OTHER_OVERLAP
    known = _KNOWN_PAIRS.get(roles[_BOXES], {})
    has_format = known or _LABELS in roles or (keys.box_format is not None and keys.box_units is not None)
    return {**fields, **known} if has_format else None


def _find_roles(graph: Graph, given: Mapping[str, str]) -> dict[str, str]:
    """The output of each role, by what keys say, or else by names and shapes."""
    roles = dict(given)
    # boxes first, because four classes look like boxes, too
    for output in sorted(graph.outputs, key=lambda output: not _is_named(output, _BOX_NAMES)):
        if output.name in roles.values():
            continue
        role = _role_of(output, graph, roles)
        if role is not None and role not in roles:
            roles[role] = output.name
    return roles


def _role_of(output: GraphTensor, graph: Graph, taken: Container[str]) -> str | None:
    rank = len(output.shape)
    unbatched = len(graph.inputs[0].shape) == 3
    if rank == (2 if unbatched else 3):
        return _BOXES if output.shape[-1] == 4 and _BOXES not in taken else _SCORES
    if rank == (1 if unbatched else 2):
        return _LABELS if output.dtype in _WHOLE or _is_named(output, _LABEL_NAMES) else _SCORES
    if rank == 4 and MASKS in output.name.lower():
        return MASKS
    return None


def _is_named(output: GraphTensor, words: Iterable[str]) -> bool:
    return any(word in output.name.lower() for word in words)


def _nanodet_pairs(graph: Graph) -> list[tuple[str, str]]:
    """(scores, distances) of each stride, by the names that NanoDet gives them, finest first."""
    scores, distances = (
        {output.name.removeprefix(prefix): output.name for output in graph.outputs if output.name.startswith(prefix)}
        for prefix in _NANODET_PREFIXES
    )
    strides = sorted((stride for stride in scores.keys() & distances.keys() if stride.isdecimal()), key=int)
    return [(scores[stride], distances[stride]) for stride in strides]


def _nanodet_fields(graph: Graph, keys: GraphKeys, names: int | None) -> dict[str, Any] | None:
    common = {"head": "nanodet", "overlap": _NANODET_OVERLAP}
    roles: dict[str, str] = {}
    for level, (scores, distances) in enumerate(_nanodet_pairs(graph)):
        roles |= {f"scores_{level}": scores, f"distances_{level}": distances}
    roles = dict(keys.outputs or {}) or roles
    if "scores_0" in roles and "distances_0" in roles:
        classes = next(output.shape[-1] for output in graph.outputs if output.name == roles["scores_0"])
        return {**common, "outputs": roles, "classes": classes}
    (first, *others) = graph.outputs
    if others or len(first.shape) != 3:
        return None
    return {**common, "outputs": {"scores_0": first.name}, "classes": names}


_RECOGNISERS: Final = {"nanodet": _nanodet_fields, "boxes": _pair_fields, "detr": _pair_fields}
"""Of the heads that have boxes and scores apart."""
