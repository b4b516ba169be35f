"""How images are prepared for a graph: from presets, from single keys, and from the shape of its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cvbatch.errors import ModelError
from cvbatch.images.letterbox import BLACK, Letterbox
from cvbatch.images.preprocess import View
from cvbatch.models.graphs.graph import Graph, GraphTensor
from cvbatch.models.graphs.keys import GraphKeys
from cvbatch.models.graphs.reading import Layout
from cvbatch.tasks.base import Task

_IMAGENET: Final = {"scale": 255.0, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "imagenet": _IMAGENET,
    "unit": {"scale": 255.0},
    "symmetric": {"scale": 127.5, "mean": (1.0, 1.0, 1.0)},
    "raw": {"scale": 1.0},
    "caffe": {"scale": 1.0, "channels": "bgr", "mean": (103.939, 116.779, 123.68)},
    "yolo": {"scale": 255.0, "fit": "letterbox", "fill": (114, 114, 114), "interpolation": "linear"},
    "nanodet": {
        "scale": 1.0,
        "channels": "bgr",
        "mean": (103.53, 116.28, 123.675),
        "std": (57.375, 57.12, 58.395),
        "fit": "letterbox-top-left",
    },
    "detr": {**_IMAGENET, "fit": "stretch"},
}
"""Mean and std are in the order of the graph's channels, after dividing by `scale`."""
_CROP_SHARE: Final = 0.875
"""Shorter side of a centre crop, as a share of the side before; 224 of 256, as the weights of ImageNet use."""
_IMAGE_TYPES: Final = ("float32", "float16", "uint8")
TARGET_SIZES: Final = "orig_target_sizes"
"""A second input of RT-DETR and its kin: (width, height) in which boxes are given."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """How images reach a graph."""

    view: View
    layout: Layout
    numbers: Mapping[str, Any]
    """Those of `channels`, `scale`, `mean` and `std` that differ from the defaults of `GraphReading`."""
    batch: int | None


def find_image_input(graph: Graph) -> GraphTensor:
    """The input that takes images.

    Raises:
        ModelError: There is none, or there are further inputs.
    """
    images = [tensor for tensor in graph.inputs if len(tensor.shape) in (3, 4) and tensor.dtype in _IMAGE_TYPES]
    others = [tensor for tensor in graph.inputs if tensor not in images and tensor.name != TARGET_SIZES]
    if len(images) != 1 or others:
        found = ", ".join(map(str, graph.inputs))
        raise ModelError(f"{graph.name}: expected one input, images of float32, float16 or uint8, got {found}")
    return images[0]


def plan_preparation(graph: Graph, keys: GraphKeys, task: Task) -> Preparation:
    """Decide how images are prepared.

    Args:
        graph: The graph.
        keys: All that is known.
        task: Task of the model.

    Raises:
        ModelError: Something is not known, or contradicts the graph.
    """
    image = find_image_input(graph)
    layout = keys.layout or _guess_layout(graph.name, image)
    _check_layout(graph.name, image, layout)
    known = {**_PRESETS.get(keys.preprocess or "", {}), **_single_keys(keys)}
    if image.dtype == "uint8":
        known = {"scale": 1.0, **known}
    elif not known.keys() & {"scale", "mean", "std"}:
        raise ModelError(
            f"{graph.name} does not say how its images are prepared: give preprocess: imagenet (its mean and standard "
            "deviation), unit (0 to 1), symmetric (-1 to 1), raw (0 to 255), caffe, yolo, nanodet or detr; or scale:, "
            "mean: and std:"
        )
    view = _plan_view(graph.name, _frame_of(image, layout), keys.replaced_by(GraphKeys(**known)), task)
    numbers: dict[str, Any] = {name: known[name] for name in ("channels", "scale", "mean", "std") if name in known}
    batch = image.shape[0] if layout != "chw" else 1
    return Preparation(view, layout, numbers, batch)


def _single_keys(keys: GraphKeys) -> dict[str, Any]:
    names = ("channels", "scale", "mean", "std", "fit", "fill", "interpolation")
    return {name: value for name in names if (value := getattr(keys, name)) is not None}


def _guess_layout(name: str, image: GraphTensor) -> Layout:
    shape = image.shape
    if len(shape) == 3 and shape[0] == 3:
        return "chw"
    if len(shape) == 4 and shape[1] == 3 and shape[3] != 3:
        return "nchw"
    if len(shape) == 4 and shape[3] == 3 and shape[1] != 3:
        return "nhwc"
    raise ModelError(f"{name}: expected an input with three channels, got {image}: give layout: nchw or nhwc")


def _check_layout(name: str, image: GraphTensor, layout: Layout) -> None:
    channels = image.shape[layout.index("c")] if len(image.shape) == len(layout) else 0
    if channels not in (3, None):
        raise ModelError(f"{name}: layout: {layout} does not fit its input {image}")


def _frame_of(image: GraphTensor, layout: Layout) -> tuple[int | None, int | None]:
    return image.shape[layout.index("h")], image.shape[layout.index("w")]


def _plan_view(name: str, frame: tuple[int | None, int | None], keys: GraphKeys, task: Task) -> View:
    fit = keys.fit or ("stretch" if task.locates_objects else "crop")
    interpolation = keys.interpolation or "bilinear"
    if fit == "keep":
        if frame != (None, None):
            raise ModelError(f"{name}: fit: keep is for graphs that take any size, and this one takes {_spell(frame)}")
        if keys.resize is None or keys.longer is None:
            return View(resize=keys.resize, interpolation=interpolation)
        bounds = Letterbox(shorter=keys.resize, longer=keys.longer, rounding="shorter_first", stride=keys.stride)
        return View(letterbox=bounds, interpolation=interpolation)
    height, width = _find_size(name, frame, keys)
    if task.covers_image and fit == "crop":
        raise ModelError(
            f"{name}: fit: {fit} does not show a whole image to {task.name}: give fit: stretch, letterbox or keep"
        )
    if fit == "stretch":
        return View(resize=(height, width), interpolation=interpolation)
    if fit == "crop":
        resize = keys.resize or round(max(height, width) / _CROP_SHARE)
        return View(resize=resize, crop=(height, width), interpolation=interpolation)
    stride = keys.stride if frame == (None, None) else None
    if stride is not None and (height % stride or width % stride):
        raise ModelError(f"{name}: size: expected multiples of the stride {stride}, got {_spell((height, width))}")
    letterbox = Letterbox(size=(height, width), centred=fit == "letterbox", fill=keys.fill or BLACK, stride=stride)
    return View(letterbox=letterbox, interpolation=interpolation)


def _find_size(name: str, frame: tuple[int | None, int | None], keys: GraphKeys) -> tuple[int, int]:
    """(height, width) of the graph's images: its own, or what keys say."""
    given = (keys.size, keys.size) if isinstance(keys.size, int) else keys.size
    height, width = (fixed or (given[axis] if given else None) for axis, fixed in enumerate(frame))
    if height is None or width is None:
        raise ModelError(f"{name} takes images of any size: give size: such as [640, 640], or fit: keep")
    if given is not None and given != (height, width):
        raise ModelError(f"{name}: size: {_spell(given)} does not fit its input, which is {_spell(frame)}")
    return height, width


def _spell(size: tuple[int | None, ...]) -> str:
    return " × ".join("?" if length is None else str(length) for length in size)
