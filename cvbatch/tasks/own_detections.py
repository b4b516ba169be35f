"""Check the detections of `python:` models, and map their keypoints to the original."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cvbatch.images.preprocess import Size, View, boxes_to_original, compute_output_size
from cvbatch.tasks.base import ModelFacts
from cvbatch.tasks.output_checks import (
    REAL,
    TRUTH,
    WHOLE,
    Array,
    expect_boxes,
    expect_finite,
    expect_label_ids,
    expect_probabilities,
    expect_shape,
    invalid_output_error,
    shorten_repr,
    to_number_array,
)

_KINDS = {"scores": REAL, "boxes": REAL, "label_ids": WHOLE, "masks": TRUTH, "keypoints": REAL}
_TYPES: dict[str, Any] = {
    "scores": np.float32,
    "boxes": np.float64,
    "label_ids": np.int64,
    "masks": np.bool_,
    "keypoints": np.float32,
}


def check_detection_arrays(model: ModelFacts, raw: Any, size: Size) -> dict[str, Array]:
    """Check one image's detections, and return their arrays in pixels of the view.

    Args:
        model: The model that answered.
        raw: An object with the attributes of `cvbatch.inference.python.protocol.Detections`.
        size: (width, height) of the oriented original.

    Returns:
        `boxes`, `label_ids` and `scores`, and `masks` and `keypoints` if the model returns them.

    Raises:
        ImageError: The detections are invalid.
    """
    if not all(hasattr(raw, name) for name in ("boxes", "label_ids", "scores")):
        raise invalid_output_error(model, f"expected Detections for each image, got {shorten_repr(raw)}")
    arrays = {
        name: to_number_array(model, name, value, kinds)
        for name, kinds in _KINDS.items()
        if (value := getattr(raw, name, None)) is not None
    }
    count = len(arrays["scores"]) if "scores" in arrays and arrays["scores"].ndim else 0
    shapes: dict[str, tuple[int | None, ...]] = {"scores": (count,), "boxes": (count, 4), "label_ids": (count,)}
    shapes |= {"masks": (count, None, None)} if model.masks else {}
    shapes |= {"keypoints": (count, None, 3)} if model.keypoints else {}
    if not count:  # a model may return [] if it detects nothing
        arrays |= {
            name: np.zeros([length or 0 for length in shape])
            for name, shape in shapes.items()
            if name not in arrays or not arrays[name].size
        }
    for name, shape in shapes.items():
        expect_shape(model, name, arrays.get(name), shape)
    arrays = {name: array.astype(_TYPES[name], copy=False) for name, array in arrays.items()}
    if model.masks and count and not arrays["masks"].size:
        raise invalid_output_error(model, f"expected masks with pixels, got some of shape {arrays['masks'].shape}")
    expect_label_ids(model, arrays["label_ids"])
    expect_probabilities(model, arrays["scores"])
    expect_boxes(model, arrays["boxes"], compute_output_size(model.view, size))
    if model.keypoints:
        expect_finite(model, "keypoints", arrays["keypoints"])
    return arrays


def keypoints_to_original(
    view: View, size: Size, keypoints: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.floating[Any]]:
    """Map keypoints from the view to the original.

    Args:
        view: View that the model saw.
        size: (width, height) of the oriented original.
        keypoints: (n, keypoints, 3): x, y in pixels of the view, score.
    """
    flat = keypoints.reshape(-1, 3)
    mapped = boxes_to_original(view, size, flat[:, [0, 1, 0, 1]])
    return np.concatenate([mapped[:, :2], flat[:, 2:]], axis=1).reshape(keypoints.shape)
