"""Run models of the `python:` protocol."""

from __future__ import annotations

from collections.abc import Hashable, Sequence, Sized
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cvbatch.errors import attempt
from cvbatch.images.preprocess import View, size_of, to_original
from cvbatch.inference import output_checks
from cvbatch.inference.network import Answers
from cvbatch.inference.output_checks import REAL, TRUTH, WHOLE, Array, expect_shape, number_array
from cvbatch.inference.python.protocol import Detections, Image, Model, Size
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.detection import Boxes, wanted
from cvbatch.tasks.masks import encode_mask
from cvbatch.tasks.segmentation import Segments, emitted, segments


class PythonNetwork:
    """A `python:` model behind the interface of all networks.

    Args:
        model: What the factory returned.
    """

    parallel = False

    def __init__(self, model: Model) -> None:
        self._model = model

    def use_threads(self, count: int) -> None:
        """How many threads it takes is the model's own affair, too."""

    def batch_key(self, image: Image) -> Hashable:
        """All images share: how to batch them is the model's own affair."""
        return None

    def run(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        """See `Network.run`; an answer that cannot be one is an error in its place.

        Raises:
            ImageError: The model's answers are not one for each image, or it would end the process.
        """
        try:
            found = self._model.predict(images, sizes)
        except SystemExit as error:  # would end the process, and the rows would not say why
            raise output_checks.invalid(specs[0], f"predict called sys.exit({error.code!r})") from None
        return {spec.alias: self._answers(spec, found, sizes) for spec in specs}

    def _answers(self, spec: ModelSpec, found: Any, sizes: Sequence[Size]) -> Sequence[Any]:
        listed = isinstance(found, Sized) and hasattr(found, "__getitem__") and not isinstance(found, dict | str)
        if not listed:
            what = f"a list or an array with an answer for each of {len(sizes)} images"
            raise output_checks.invalid(spec, f"expected {what}, got {output_checks.short(found)}")
        if len(found) != len(sizes):
            raise output_checks.invalid(spec, f"expected {len(sizes)} answers, got {len(found)}")
        if spec.task in ("detection", "segmentation"):
            convert = _boxes if spec.task == "detection" else _segments
            return [
                attempt("predict", partial(convert, spec, each, size)) for each, size in zip(found, sizes, strict=True)
            ]
        what, length = ("scores", len(spec.categories)) if spec.task == "classification" else ("vector", spec.dimension)
        rows = number_array(spec, what, found, REAL)
        expect_shape(spec, what, rows, (len(sizes), length))
        with np.errstate(over="ignore"):  # what is too large is infinite then, and refused
            rows = rows.astype(np.float32)
        return list(_softmax(rows) if spec.task == "classification" and getattr(self._model, "logits", False) else rows)


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    with np.errstate(invalid="ignore"):  # a row that is not finite has no probabilities, and is refused
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: npt.NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _boxes(spec: ModelSpec, found: Any, size: Size) -> Boxes:
    if not all(hasattr(found, name) for name in ("boxes", "label_ids", "scores")):
        raise output_checks.invalid(spec, f"expected Detections for each image, got {output_checks.short(found)}")
    raw = _checked_arrays(spec, found, size)
    keep = wanted(spec, raw["label_ids"], raw["scores"])
    return Boxes(
        boxes=to_original(spec.view, size, raw["boxes"][keep]),
        label_ids=raw["label_ids"][keep],
        scores=raw["scores"][keep],
        masks=[encode_mask(_nearest(raw["masks"][at], size)) for at in keep] if spec.masks else [],
        keypoints=_points(spec.view, size, raw["keypoints"][keep]) if spec.keypoints else None,
    )


def _checked_arrays(spec: ModelSpec, found: Detections, size: Size) -> dict[str, Array]:
    given = {name: getattr(found, name, None) for name in _KINDS}
    arrays = {name: number_array(spec, name, value, _KINDS[name]) for name, value in given.items() if value is not None}
    count = len(arrays["scores"]) if "scores" in arrays and arrays["scores"].ndim else 0
    shapes: dict[str, tuple[int | None, ...]] = {"scores": (count,), "boxes": (count, 4), "label_ids": (count,)}
    shapes |= {"masks": (count, None, None)} if spec.masks else {}
    shapes |= {"keypoints": (count, None, 3)} if spec.keypoints else {}
    if not count:  # as [] where there is nothing
        arrays |= {
            name: np.zeros([length or 0 for length in shape])
            for name, shape in shapes.items()
            if name not in arrays or not arrays[name].size
        }
    for name, shape in shapes.items():
        expect_shape(spec, name, arrays.get(name), shape)
    arrays = {name: array.astype(_TYPES[name], copy=False) for name, array in arrays.items()}
    if spec.masks and count and not arrays["masks"].size:
        raise output_checks.invalid(spec, f"expected masks with pixels, got some of shape {arrays['masks'].shape}")
    output_checks.expect_label_ids(spec, arrays["label_ids"])
    output_checks.expect_probabilities(spec, arrays["scores"])
    output_checks.expect_boxes(spec, arrays["boxes"], size_of(spec.view, size))
    if spec.keypoints:
        output_checks.expect_finite(spec, "keypoints", arrays["keypoints"])
    return arrays


_KINDS = {"scores": REAL, "boxes": REAL, "label_ids": WHOLE, "masks": TRUTH, "keypoints": REAL}
_TYPES: dict[str, Any] = {
    "scores": np.float32,
    "boxes": np.float64,
    "label_ids": np.int64,
    "masks": np.bool_,
    "keypoints": np.float32,
}


def _segments(spec: ModelSpec, found: Any, size: Size) -> Segments:
    labels = number_array(spec, "label map", found, WHOLE + TRUTH)
    expect_shape(spec, "label map", labels, (None, None))
    if not labels.size:
        raise output_checks.invalid(spec, f"expected a label map with pixels, got one of shape {labels.shape}")
    output_checks.expect_label_ids(spec, labels)
    small = labels if labels.dtype.itemsize < _LONGEST else labels.astype(np.int64)
    return segments(_nearest(small, size), emitted(spec))


_LONGEST = 8
"""Bytes of a whole number, of which unsigned ones cannot be counted."""


def _nearest(labels: Array, size: Size) -> Array:
    """Scale a map to (height, width) of the original, in Fortran order."""
    width, height = size
    rows = (np.arange(height) + 0.5) * labels.shape[0] // height
    columns = (np.arange(width) + 0.5) * labels.shape[1] // width
    scaled: Array = labels.T[columns.astype(np.intp)[:, None], rows.astype(np.intp)]
    return scaled.T


def _points(view: View, size: Size, keypoints: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    flat = keypoints.reshape(-1, 3)
    mapped = to_original(view, size, flat[:, [0, 1, 0, 1]])
    return np.concatenate([mapped[:, :2], flat[:, 2:]], axis=1).reshape(keypoints.shape)
