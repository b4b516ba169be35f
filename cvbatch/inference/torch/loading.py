"""Common steps of loading torch networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from cvbatch.inference.network import ForwardPass, Network
from cvbatch.inference.settings import InferenceSettings
from cvbatch.inference.torch import checkpoint
from cvbatch.inference.torch.checkpoint import Shapes
from cvbatch.inference.torch.malloc import keep_freed_memory
from cvbatch.inference.torch.tensors import InferenceContext
from cvbatch.models.backends import is_setting_applicable
from cvbatch.models.spec import ModelSpec


def run_in_context(make: Callable[[], ForwardPass], *, device: str, setting: InferenceSettings) -> Network:
    """Make a network, and wrap it so that it runs as the setting says.

    Channels last is the reference at every precision: at fp32 on a CPU it is 1.0 to 2.0 times as fast for the
    convolutional families (ResNet-50 1.1, MobileNetV3 1.5, DeepLabV3 1.6) and 0.9 times for MaxViT and ViT.

    Args:
        make: Makes the network on its device.
        device: `cpu`, `cuda` or `cuda:N`.
        setting: How the network runs.
    """
    if device == "cpu":
        keep_freed_memory()
    return InferenceContext(make(), device=device, precision=setting.precision)


def compiled_if_set(module: nn.Module, spec: ModelSpec, device: str, setting: InferenceSettings) -> Callable[..., Any]:
    """Return the module, compiled if the setting says so and the model can be compiled."""
    if not (setting.compiled and device == "cpu" and is_setting_applicable("compiled", [spec])):
        return module
    from cvbatch.inference.torch.aot_compile import CompiledNetwork

    return CompiledNetwork(module, spec, setting)


def with_fitting_categories(spec: ModelSpec, shapes: Callable[[int], Shapes]) -> ModelSpec:
    """Decide whether the categories of own weights count the background; see `checkpoint.fit_categories`."""
    fitted = checkpoint.fit_categories(spec, shapes)
    named_count = sum(name is not None for name in fitted.categories)
    return replace(fitted, top_k=min(fitted.top_k, named_count))
