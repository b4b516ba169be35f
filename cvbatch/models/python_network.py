"""Run models of the `python:` protocol."""

from __future__ import annotations

import importlib
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from cvbatch.config import Task
from cvbatch.errors import ModelError
from cvbatch.models.network import Answers
from cvbatch.models.protocol import Detections, Image, Model, Size
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.detection import Boxes, wanted
from cvbatch.tasks.masks import encode_mask
from cvbatch.tasks.segmentation import Segments, emitted, segments
from cvbatch.views import View, to_original


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
        """See `Network.run`.

        Raises:
            ValueError: The model's answer has not the shape that the protocol asks for.
        """
        found = self._model.predict(images, sizes)
        if len(found) != len(images):
            raise ValueError(f"expected {len(images)} answers of {type(self._model).__name__}, got {len(found)}")
        return {spec.alias: _answers(spec, found, sizes) for spec in specs}


def _answers(spec: ModelSpec, found: Any, sizes: Sequence[Size]) -> Sequence[Any]:
    if spec.task == "detection":
        return [_boxes(spec, each, size) for each, size in zip(found, sizes, strict=True)]
    if spec.task == "segmentation":
        return [_segments(spec, np.asarray(labels), size) for labels, size in zip(found, sizes, strict=True)]
    length = len(spec.categories) if spec.task == "classification" else spec.dimension
    rows = np.asarray(found, dtype=np.float32)
    _expect(spec, "answer", rows, (len(sizes), length))
    return list(rows)


def _expect(spec: ModelSpec, what: str, array: npt.NDArray[Any] | None, shape: tuple[int | None, ...]) -> None:
    """Check a shape, in which None stands for any length."""
    got = () if array is None else array.shape
    if len(got) != len(shape) or any(want not in (None, have) for want, have in zip(shape, got, strict=True)):
        wanted = ", ".join("n" if length is None else str(length) for length in shape)
        raise ValueError(f"{spec.name}: expected {what} of shape ({wanted}), got {got if got else 'none'}")


def _check(spec: ModelSpec, found: Detections) -> None:
    count = len(found.scores)
    _expect(spec, "boxes", found.boxes, (count, 4))
    _expect(spec, "label_ids", found.label_ids, (count,))
    if spec.masks:
        _expect(spec, "masks", found.masks, (count, None, None))
    if spec.keypoints:
        _expect(spec, "keypoints", found.keypoints, (count, None, 3))
    if count and not 0 <= found.label_ids.min() <= found.label_ids.max() < len(spec.categories):
        raise ValueError(f"{spec.name}: expected label ids below {len(spec.categories)}, got {found.label_ids.max()}")


def _boxes(spec: ModelSpec, found: Detections, size: Size) -> Boxes:
    _check(spec, found)
    keep = wanted(spec, found.label_ids, found.scores)
    masks: list[bytes] = []
    if spec.masks and found.masks is not None:
        masks = [encode_mask(_nearest(found.masks[at], size)) for at in keep]
    keypoints = None
    if spec.keypoints and found.keypoints is not None:
        keypoints = _points(spec.view, size, found.keypoints[keep])
    return Boxes(
        boxes=to_original(spec.view, size, found.boxes[keep]),
        label_ids=found.label_ids[keep],
        scores=found.scores[keep],
        masks=masks,
        keypoints=keypoints,
    )


def load(spec: ModelSpec) -> Model:
    """Import the factory of a spec and call it.

    Raises:
        ModelError: It cannot be imported, it fails, or its result does not follow the protocol.
    """
    module_name, _, factory_name = spec.name.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except ImportError as error:
        raise ModelError(f"python:{spec.name}: {error}: the job file's folder and installed packages count") from error
    except AttributeError:
        raise ModelError(f"python:{spec.name}: {module_name} has no {factory_name!r}") from None
    try:
        model = factory(**spec.options)
    except TypeError as error:
        raise ModelError(f"python:{spec.name}: {error}; options: {spec.options}") from error
    if not isinstance(model, Model):
        raise ModelError(f"python:{spec.name}: expected task, view, categories and predict(), got {model!r}")
    return model


def complete(spec: ModelSpec, model: Model) -> ModelSpec:
    """Fill in what only the model knows.

    Raises:
        ModelError: What it says of itself contradicts the job or the protocol.
    """
    name = f"python:{spec.name}"
    if model.task not in get_args(Task):
        raise ModelError(f"{name}: expected a task out of {', '.join(get_args(Task))}, got {model.task!r}")
    if spec.alias and spec.task != model.task and spec.alias == spec.task:
        raise ModelError(f"{name} does {model.task}, not {spec.task}: correct task:")
    if not isinstance(model.view, View):
        raise ModelError(f"{name}: expected view to be a cvbatch.views.View, got {model.view!r}")
    masks, keypoints = bool(getattr(model, "masks", False)), bool(getattr(model, "keypoints", False))
    if model.view.crop is not None and (masks or model.task == "segmentation"):
        raise ModelError(f"{name}: masks cover the whole image: choose a view without crop")
    categories = tuple(model.categories)
    if model.task != "embedding" and not any(categories):
        raise ModelError(f"{name}: expected categories with at least one name, got {categories}")
    dimension = getattr(model, "dimension", None)
    if model.task == "embedding" and not isinstance(dimension, int):
        raise ModelError(f"{name}: expected an attribute dimension, the length of its vectors, got {dimension!r}")
    named = sum(category is not None for category in categories)
    return replace(
        spec,
        alias=spec.alias or model.task,
        task=model.task,
        view=model.view,
        categories=categories,
        label_map=str(getattr(model, "label_map", f"categories of {name}")),
        licence=str(getattr(model, "licence", "")),
        masks=masks and model.task == "detection",
        keypoints=keypoints and model.task == "detection",
        dimension=dimension if model.task == "embedding" else None,
        top_k=min(spec.top_k, max(named, 1)),
    )


def _segments(spec: ModelSpec, labels: npt.NDArray[Any], size: Size) -> Segments:
    _expect(spec, "label map", labels, (None, None))
    if not 0 <= labels.min() <= labels.max() < len(spec.categories):
        raise ValueError(f"{spec.name}: expected label ids below {len(spec.categories)}, got {labels.max()}")
    return segments(_nearest(labels, size), emitted(spec))


def _nearest(labels: npt.NDArray[Any], size: Size) -> npt.NDArray[Any]:
    """Scale a map to (height, width) of the original, in Fortran order."""
    width, height = size
    rows = (np.arange(height) + 0.5) * labels.shape[0] // height
    columns = (np.arange(width) + 0.5) * labels.shape[1] // width
    scaled: npt.NDArray[Any] = labels.T[columns.astype(np.intp)[:, None], rows.astype(np.intp)]
    return scaled.T


def _points(view: View, size: Size, keypoints: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    flat = keypoints.reshape(-1, 3)
    mapped = to_original(view, size, flat[:, [0, 1, 0, 1]])
    return np.concatenate([mapped[:, :2], flat[:, 2:]], axis=1).reshape(keypoints.shape)
