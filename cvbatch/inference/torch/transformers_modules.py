"""Networks of transformers behind the interface of our own: images in, outputs that tasks read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from cvbatch.inference.network import ForwardPass, Image
from cvbatch.inference.torch.classifier import ClassifierNetwork, ClassifierOutputs
from cvbatch.inference.torch.depths import DepthNetwork
from cvbatch.inference.torch.query_boxes import QueryNetwork
from cvbatch.inference.torch.query_masks import MaskOutputs
from cvbatch.inference.torch.segmenter import SegmenterNetwork
from cvbatch.inference.torch.tensors import BatchNormalizer, to_numpy
from cvbatch.inference.torch.transformers_prompts import wrap_prompted
from cvbatch.models.transformers.reading import TransformersReading

_CLASSIFIER: Final = "classifier"
"""Name of the last layers in all classifiers of transformers but those with a second head for a teacher."""

_MASK_SIZES: Final = {"mask2former": (384, 384)}
"""(height, width) of the masks that the processors of these models make first, whatever the size of the image."""


def wrap_module(module: nn.Module, reading: TransformersReading, *, pooled: bool) -> nn.Module:
    """Make a module that maps a batch to tensors.

    Args:
        module: A network of transformers, on its device if there are prompts, which are encoded at once.
        reading: How its outputs are read.
        pooled: Whether it has its pooler; else the first token is the vector.

    Returns:
        A module that maps (batch, 3, height, width) to the logits, where there are any, and vectors.
    """
    if reading.tokens:
        return wrap_prompted(module, reading)
    return _WRAPPERS[reading.head](module, pooled)


def make_forward_pass(module: nn.Module, reading: TransformersReading, device: str) -> ForwardPass:
    """Make the forward pass of a wrapped module on its device."""
    batch = _ReversedBatch(reading, device) if reading.bgr else BatchNormalizer(reading.mean, reading.std, device)
    return _PASSES[reading.head](module, batch, reading)


class _ReversedBatch(BatchNormalizer):
    """Makes batches with blue first."""

    def __init__(self, reading: TransformersReading, device: str) -> None:
        super().__init__(reading.mean[::-1], reading.std[::-1], device)

    def __call__(self, images: Sequence[Image]) -> Tensor:
        return super().__call__(images).flip(1)


class _Classifier(nn.Module):
    """Gives the logits and the input of the classifier; without such a layer, the logits twice."""

    def __init__(self, module: nn.Module, pooled: bool) -> None:
        super().__init__()
        self._module = module
        self._head_input = threading.local()
        head = getattr(module, _CLASSIFIER, None)
        self._has_head = isinstance(head, nn.Module)
        if isinstance(head, nn.Module):
            head.register_forward_pre_hook(self._store_features)

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        logits = self._module(pixel_values=batch).logits
        if not self._has_head:
            return logits, logits[:, :, None]
        features: Tensor = self._head_input.features
        del self._head_input.features
        return logits, _flat(features)

    def _store_features(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._head_input.features = inputs[0]


class _Backbone(nn.Module):
    """Gives the pooled output twice."""

    def __init__(self, module: nn.Module, pooled: bool) -> None:
        super().__init__()
        self._module, self._pooled = module, pooled

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        vector = self._vector(batch)
        return vector, vector

    def _vector(self, batch: Tensor) -> Tensor:
        output = self._module(pixel_values=batch)
        vector: Tensor | None = output.get("pooler_output")
        if not self._pooled:
            vector = output.last_hidden_state[:, 0]
        if vector is None:
            raise ValueError("expected a pooled output, got none")
        return _flat(vector)


class _ProjectedVision(_Backbone):
    """Gives the projected vector of an image."""

    def _vector(self, batch: Tensor) -> Tensor:
        vector: Tensor = self._module(pixel_values=batch).image_embeds
        return vector


class _ImageFeatures(_Backbone):
    """Gives the vector of an image that is compared with those of texts; the part for texts is let go."""

    def __init__(self, module: nn.Module, pooled: bool) -> None:
        super().__init__(module, pooled)
        if not hasattr(module, "get_image_features"):
            raise ValueError("expected a model with image features")
        for name in ("text_model", "text_projection"):
            if hasattr(module, name):
                setattr(module, name, None)

    def _vector(self, batch: Tensor) -> Tensor:
        features: Any = self._module.get_image_features
        output = features(pixel_values=batch)
        vector: Tensor = output if isinstance(output, Tensor) else output.pooler_output
        return vector


class _Detector(nn.Module):
    """Gives the logits and the boxes of the queries."""

    def __init__(self, module: nn.Module, pooled: bool) -> None:
        super().__init__()
        self._module = module

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        output = self._module(pixel_values=batch)
        return output.logits, output.pred_boxes


class _Segmenter(nn.Module):
    """Gives logits as torchvision's segmenters do."""

    def __init__(self, module: nn.Module, pooled: bool) -> None:
        super().__init__()
        self._module = module

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return {"out": self._module(pixel_values=batch).logits}


class _MaskQueries(nn.Module):
    """Gives the logits of classes and of masks for each query."""

    def __init__(self, module: nn.Module, pooled: bool) -> None:
        super().__init__()
        config: Any = module.config
        self._module = module
        self._size = _MASK_SIZES.get(config.model_type)

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        output = self._module(pixel_values=batch)
        if "pred_masks" in output:
            return output.logits, output.pred_masks
        masks: Tensor = output.masks_queries_logits
        if self._size is not None:
            masks = functional.interpolate(masks.float(), size=self._size, mode="bilinear", align_corners=False)
        return output.class_queries_logits, masks


class _MasksToPixels(nn.Module):
    """Gives scores of classes for each pixel: those of the queries, as far as their masks go."""

    def __init__(self, module: nn.Module, pooled: bool) -> None:
        super().__init__()
        self._queries = _MaskQueries(module, pooled)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        classes, masks = self._queries(batch)
        shares = classes.float().softmax(dim=-1)[..., :-1]
        return {"out": torch.einsum("bqc,bqhw->bchw", shares, masks.float().sigmoid())}


class _DepthEstimator(nn.Module):
    """Gives a map of depths for each image, (batch, height, width)."""

    def __init__(self, module: nn.Module, pooled: bool) -> None:
        super().__init__()
        self._module = module

    def forward(self, batch: Tensor) -> Tensor:
        depths: Tensor = self._module(pixel_values=batch).predicted_depth
        return depths


def _flat(features: Tensor) -> Tensor:
    return features.float().mean(dim=(2, 3)) if features.dim() == 4 else features


class _ClassOutputs(ClassifierOutputs):
    """Outputs of a classifier whose classes do not exclude each other."""

    @cached_property
    def scores(self) -> list[npt.NDArray[np.float32]]:
        return list(to_numpy(self._logits.float().sigmoid()))


class _ManyLabelNetwork(ClassifierNetwork):
    def outputs_of(self, logits: Tensor, features: Tensor) -> ClassifierOutputs:
        return _ClassOutputs(logits, features)


def _classifier_pass(module: nn.Module, batch: BatchNormalizer, reading: TransformersReading) -> ForwardPass:
    return (_ManyLabelNetwork if reading.activation == "sigmoid" else ClassifierNetwork)(module, batch)


def _vector_pass(module: nn.Module, batch: BatchNormalizer, reading: TransformersReading) -> ForwardPass:
    return ClassifierNetwork(module, batch)


def _segmenter_pass(module: nn.Module, batch: BatchNormalizer, reading: TransformersReading) -> ForwardPass:
    return SegmenterNetwork(module, batch)


def _depth_pass(module: nn.Module, batch: BatchNormalizer, reading: TransformersReading) -> ForwardPass:
    return DepthNetwork(module, batch)


def _mask_pass(module: nn.Module, batch: BatchNormalizer, reading: TransformersReading) -> ForwardPass:
    return QueryNetwork(module, batch, reading, MaskOutputs)


def _query_pass(module: nn.Module, batch: BatchNormalizer, reading: TransformersReading) -> ForwardPass:
    return QueryNetwork(module, batch, reading)


_WRAPPERS: Final[dict[str, Callable[[nn.Module, bool], nn.Module]]] = {
    "classes": _Classifier,
    "pooled": _Backbone,
    "projected": _ProjectedVision,
    "image_features": _ImageFeatures,
    "pixels": _Segmenter,
    "overlapping_masks": _MaskQueries,
    "exclusive_masks": _MaskQueries,
    "masks_to_pixels": _MasksToPixels,
    "depths": _DepthEstimator,
    "queries": _Detector,
}
_PASSES: Final[dict[str, Callable[[nn.Module, BatchNormalizer, TransformersReading], ForwardPass]]] = {
    "classes": _classifier_pass,
    "pooled": _vector_pass,
    "projected": _vector_pass,
    "image_features": _vector_pass,
    "pixels": _segmenter_pass,
    "masks_to_pixels": _segmenter_pass,
    "overlapping_masks": _mask_pass,
    "exclusive_masks": _mask_pass,
    "depths": _depth_pass,
    "queries": _query_pass,
    "prompts": _classifier_pass,
    "prompted_patches": _query_pass,
    "grounded": _query_pass,
}
