"""Deterministic weights with varied answers, to compare implementations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import models as zoo

from cvbatch.inference.torch import torchvision_families, torchvision_models

_SIGMOID = (-2.5, 1.5)
_SOFTMAX = (0.0, 2.5)
_DISTANCES = (0.5, 0.3)
_BOXES = (0.0, 0.3)
_SMALLEST_STD = 1e-4


def seeded_network(builder: str, num_classes: int, images: Sequence[Image.Image], seed: int) -> nn.Module:
    """Build a network with random weights and tune it on images.

    Plain random weights give almost the same answer for every image, so that a comparison proves nothing. Here, batch
    norms take their statistics from the images, and each head is shifted and scaled so that classes differ between
    images and between positions.

    Args:
        builder: A torchvision builder.
        num_classes: Number of outputs of its head, including the background.
        images: Images to tune on.
        seed: Seed of the random weights.

    Returns:
        The network in evaluation mode.
    """
    with torch.random.fork_rng(devices=()), torch.inference_mode():
        torch.manual_seed(seed)
        network = torchvision_models.construct_builder(builder, num_classes=num_classes).eval()
        transforms = zoo.get_model_weights(builder).DEFAULT.transforms()
        tensors = [transforms(image) for image in images]
        hooks = [
            layer.register_forward_hook(_ActivationScaler(*target))
            for layer, target in _training_targets(builder, network)
        ]
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
                module.train()
        network(tensors if torchvision_families.family_of(builder).takes_lists else torch.stack(tensors))
        for hook in hooks:
            hook.remove()
    return network.eval()


def _training_targets(builder: str, network: nn.Module) -> list[tuple[nn.Module, tuple[float, float]]]:
    """Layers to tune, each with the target mean and standard deviation of its outputs."""
    two_classes, three_classes = (torchvision_models.builder_state_shapes(builder, classes) for classes in (2, 3))
    heads = {key.rpartition(".")[0] for key, shape in two_classes.items() if three_classes[key] != shape}
    logits = _SIGMOID if builder.startswith(("retinanet", "fcos")) else _SOFTMAX
    targets = {name: _BOXES if "bbox" in name else logits for name in heads}
    targets["head.regression_head.bbox_reg"] = _DISTANCES
    return [(layer, targets[name]) for name, layer in network.named_modules() if name in targets]


class _ActivationScaler:
    """Hook that shifts and scales each output channel of a layer at its first call, before later layers run."""

    def __init__(self, mean: float, std: float) -> None:
        self._mean = mean
        self._std = std
        self._done = False

    def __call__(self, layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self._done:
            return None
        self._done = True
        if not layer.weight.any():
            nn.init.normal_(layer.weight)
            output = layer.forward(*inputs)
        channel = 1 if output.dim() == 4 else output.dim() - 1
        dims = [dim for dim in range(output.dim()) if dim != channel]
        scale = self._std / output.std(dim=dims).clamp(min=_SMALLEST_STD)
        layer.weight *= scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
        if layer.bias is not None:
            layer.bias.copy_((layer.bias - output.mean(dim=dims)) * scale + self._mean)
        result: Tensor = layer.forward(*inputs)
        return result
