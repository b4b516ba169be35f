"""Networks that can learn: with the classes of a training, and the weights that it starts with."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torchvision import models as zoo
from torchvision.ops import StochasticDepth

from cvbatch.inference.torch import checkpoint, efficientnet_lite0, nanodet, nanodet_loading, torchvision_models
from cvbatch.models import weights
from cvbatch.models.backends.embedded import EMBEDDED
from cvbatch.models.backends.nanodet import NANODET
from cvbatch.models.backends.torchvision import TORCHVISION
from cvbatch.models.spec import ModelSpec

_FIRST_SCORE: Final = 0.01
"""Of the classes of a new detector."""
_LEAST_MOMENTUM: Final = 0.1
"""Of batch norms: torch's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningNetwork:
    """A network with its own classes."""

    module: nn.Module
    head: frozenset[str]
    """Names of the parameters whose shape depends on the classes, with those beside them in the same layers."""
    mean: Sequence[float]
    """Per channel, on a scale of 0 to 1."""
    std: Sequence[float]


def build_network(start: ModelSpec, classes: int, *, keep_head: bool, seed: int) -> LearningNetwork:
    """Build the network of a spec for other classes.

    Args:
        start: The model with the weights to start with.
        classes: Number of outputs of its new head, including a background.
        keep_head: Whether the start weights are of these very classes.
        seed: Of random weights, such as those of a new head.

    Raises:
        ModelError: If the weights do not fit.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = _BUILDERS[start.kind](start, classes, keep_head)
    quicken_batch_norms(network.module)
    return network


def _build_torchvision(start: ModelSpec, classes: int, keep_head: bool) -> LearningNetwork:
    arguments = {**_auxiliary_argument(start.name), **torchvision_models.size_arguments(start)}
    module = torchvision_models.construct_builder(start.name, num_classes=classes, **arguments)
    if start.weights_path is not None:
        _take_weights(module, torchvision_models.load_torchvision(start).state_dict(), keep_head)
    members = zoo.get_model_weights(start.name)
    transforms = (members[start.weights] if start.weights else members.DEFAULT).transforms()
    head = _head_of(
        module, lambda count: torchvision_models.builder_state_shapes(start.name, count, **arguments), classes
    )
    mean, std = (getattr(transforms, name, ()) for name in ("mean", "std"))  # detectors normalise images themselves
    return LearningNetwork(module=module, head=head, mean=mean, std=std)


def _auxiliary_argument(builder: str) -> dict[str, bool]:
    """What gives a segmentation network its auxiliary head, if it can have one."""
    return {"aux_loss": True} if "aux_loss" in inspect.signature(zoo.get_model_builder(builder)).parameters else {}


def _build_lite0(start: ModelSpec, classes: int, keep_head: bool) -> LearningNetwork:
    module = efficientnet_lite0.construct_lite0(classes)
    if start.weights_path is not None:
        state = checkpoint.read_matching_state(weights.fetch_for_spec(start), list(module.state_dict()))
        _take_weights(module, checkpoint.drop_auxiliary_heads(state, module), keep_head)
    head = _head_of(module, efficientnet_lite0.lite0_state_shapes, classes)
    return LearningNetwork(module=module, head=head, mean=efficientnet_lite0.MEAN, std=efficientnet_lite0.STD)


def _build_nanodet(start: ModelSpec, classes: int, keep_head: bool) -> LearningNetwork:
    module = nanodet.NanoDet(classes - 1)
    _begin_with_rare_classes(module)
    if start.weights_path is not None:
        state = checkpoint.read_matching_state(weights.fetch_for_spec(start), list(module.state_dict()))
        _take_weights(module, state, keep_head)
        if not keep_head:
            _take_distances(module, state)
    head = _head_of(module, nanodet_loading.nanodet_state_shapes, classes)
    return LearningNetwork(module=module, head=head, mean=nanodet_loading.MEAN, std=nanodet_loading.STD)


def _begin_with_rare_classes(module: nanodet.NanoDet) -> None:
    """Let new heads give low scores, so that the many cells without an object do not drown the others.

    As in the paper of the focal loss (arXiv:1708.02002, 4.1).
    """
    for output in module.outputs:
        convolution = cast(nn.Conv2d, output)
        assert convolution.bias is not None, "the heads have a bias"
        nn.init.normal_(convolution.weight, std=0.01)
        nn.init.zeros_(convolution.bias)
        nn.init.constant_(convolution.bias[: module.num_classes], -math.log(1 / _FIRST_SCORE - 1))


def _take_distances(module: nanodet.NanoDet, state: Mapping[str, Tensor]) -> None:
    """Keep the part of the heads that says where an object ends, which depends on no class."""
    with torch.no_grad():
        for name, parameter in module.outputs.named_parameters(prefix="outputs"):
            parameter[module.num_classes :] = state[name][-4 * nanodet.BINS :]


_BUILDERS: Final[Mapping[str, Callable[[ModelSpec, int, bool], LearningNetwork]]] = {
    EMBEDDED.name: _build_lite0,
    NANODET.name: _build_nanodet,
    TORCHVISION.name: _build_torchvision,
}
"""By kind of model."""


def _take_weights(module: nn.Module, state: Mapping[str, Tensor], keep_head: bool) -> None:
    """Load all weights whose shapes fit; with other classes that is all but the head."""
    own = module.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    if not keep_head:
        heads = {key.rpartition(".")[0] for key in own if key not in fitting}
        fitting = {key: value for key, value in fitting.items() if key.rpartition(".")[0] not in heads}
    module.load_state_dict({**own, **fitting})


def _head_of(module: nn.Module, shapes: Callable[[int], Mapping[str, torch.Size]], classes: int) -> frozenset[str]:
    """Parameters of all layers that have one whose shape depends on the number of classes."""
    more = shapes(classes + 1)
    layers = {key.rpartition(".")[0] for key, shape in shapes(classes).items() if more[key] != shape}
    return frozenset(name for name, _ in module.named_parameters() if name.rpartition(".")[0] in layers)


def quicken_batch_norms(module: nn.Module) -> None:
    """Let the statistics of batch norms follow the weights within some tens of steps.

    EfficientNet and MobileNetV3 have a momentum of 0.01, for trainings of hundreds of epochs: after an epoch of fifty
    steps their statistics would still be mostly those of the start, and the network would answer wrongly although it
    has learned.

    Args:
        module: Changed in place.
    """
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.momentum is not None:
            layer.momentum = max(layer.momentum, _LEAST_MOMENTUM)


def set_dropout(module: nn.Module, probability: float | None) -> None:
    """Set the probability of all dropout layers; None keeps them.

    Args:
        module: Changed in place.
        probability: From 0 to less than 1.
    """
    if probability is None:
        return
    for layer in module.modules():
        settings: Any = layer
        if isinstance(layer, nn.Dropout | nn.Dropout2d | StochasticDepth):
            settings.p = probability
        elif isinstance(layer, EfficientNet):
            settings._global_params = settings._global_params._replace(drop_connect_rate=probability)
