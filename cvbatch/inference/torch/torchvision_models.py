"""Construct torchvision networks and load their weights from files, never from the internet."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision import models as zoo

from cvbatch.errors import ModelError
from cvbatch.inference.torch import checkpoint
from cvbatch.inference.torch.torchvision_compat import states_from
from cvbatch.models import weights
from cvbatch.models.spec import ModelSpec

_INCEPTION = {"aux_logits": False, "transform_input": True, "init_weights": False}
_ARGUMENTS: dict[str, dict[str, Any]] = {"googlenet": _INCEPTION, "inception_v3": _INCEPTION}
"""Arguments that torchvision sets only for pretrained networks."""
_RCNN = ("fasterrcnn", "maskrcnn", "keypointrcnn")


@dataclass(frozen=True, slots=True)
class EmbeddingHead:
    """The layer that turns features into class scores."""

    module: nn.Module
    dimension: int
    """Length of the features."""
    spatial: bool
    """Whether it is a convolution, so that its input has positions."""


def construct_builder(name: str, *, num_classes: int, **arguments: Any) -> nn.Module:
    """Build a network with random weights; nothing is downloaded.

    Args:
        name: A builder of the catalog.
        num_classes: Number of outputs of its head, including the background.
        arguments: Further arguments of the builder.
    """
    builder = zoo.get_model_builder(name)
    if "weights_backbone" in inspect.signature(builder).parameters:
        arguments["weights_backbone"] = None
    if name.startswith("vit_"):
        arguments["image_size"] = zoo.get_model_weights(name).DEFAULT.transforms().crop_size[0]
    network: nn.Module = builder(weights=None, num_classes=num_classes, **_ARGUMENTS.get(name, {}), **arguments)
    return network


def load_torchvision(spec: ModelSpec) -> nn.Module:
    """Build the network of a spec and load its weights.

    Raises:
        ModelError: The checkpoint does not fit the builder.
    """
    arguments = {**_threshold_arguments(spec), **size_arguments(spec)}
    if spec.weights is not None:
        member = zoo.get_model_weights(spec.name)[spec.weights]
        with states_from(partial(checkpoint.read_state_dict, weights.fetch_for_spec(spec))):
            pretrained: nn.Module = zoo.get_model(spec.name, weights=member, progress=False, **arguments)
            return pretrained
    num_classes = len(spec.categories)
    if spec.weights_path is None:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(spec.seed)
            return construct_builder(spec.name, num_classes=num_classes, **arguments)
    module = construct_builder(spec.name, num_classes=num_classes, **arguments)
    state = checkpoint.read_matching_state(weights.fetch_for_spec(spec), list(module.state_dict()))
    module.load_state_dict(checkpoint.drop_auxiliary_heads(state, module))
    return module


def builder_state_shapes(name: str, num_classes: int, **arguments: Any) -> Mapping[str, torch.Size]:
    """Shapes of all parameters and buffers for a number of classes, without allocating them."""
    with OnMetaDevice():
        module = construct_builder(name, num_classes=num_classes, **arguments)
        return {key: value.shape for key, value in module.state_dict().items()}


def size_arguments(spec: ModelSpec) -> dict[str, int]:
    """Arguments of a detector whose images come in the size that its view says, so that it does not resize them."""
    letterbox = spec.view.letterbox
    if letterbox is None or letterbox.shorter is None or letterbox.longer is None:
        return {}
    if spec.name not in zoo.list_models(module=zoo.detection):
        return {}
    return {"min_size": letterbox.shorter, "max_size": letterbox.longer}


def embedding_head(network: nn.Module) -> EmbeddingHead:
    """Find the layer whose input is the embedding: the last linear one, or else the last convolution.

    Raises:
        ModelError: The network has neither.
    """
    layers = list(network.modules())
    for layer in reversed(layers):
        if isinstance(layer, nn.Linear):
            return EmbeddingHead(layer, layer.in_features, spatial=False)
    for layer in reversed(layers):
        if isinstance(layer, nn.Conv2d):
            return EmbeddingHead(layer, layer.in_channels, spatial=True)
    raise ModelError(f"expected a linear layer or a convolution at the end of {type(network).__name__}, found none")


def _threshold_arguments(spec: ModelSpec) -> dict[str, float]:
    if spec.score_threshold is None:
        return {}
    return {"box_score_thresh" if spec.name.startswith(_RCNN) else "score_thresh": spec.score_threshold}


class OnMetaDevice(TorchFunctionMode):
    """Construct networks without memory for their parameters.

    `torch.device("meta")` would affect all tensors, also those from whose values RegNet computes its widths.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Redirect calls that allocate parameters and buffers to the meta device."""
        device = {"device": "meta"} if func in _ALLOCATORS else {}
        return func(*args, **(kwargs or {}) | device)


_ALLOCATORS = (torch.empty, torch.zeros, torch.ones)
