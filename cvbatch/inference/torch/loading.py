"""From a spec to a torch network on its device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from cvbatch.inference.compiled_packages import compilable
from cvbatch.inference.network import Forward, Network
from cvbatch.inference.settings import Setting
from cvbatch.inference.torch import checkpoint, efficientnet_lite0
from cvbatch.inference.torch.checkpoint import Shapes
from cvbatch.inference.torch.fast_import import import_torchvision
from cvbatch.inference.torch.malloc import keep_memory
from cvbatch.inference.torch.tensors import Guarded, Normalised, place
from cvbatch.models.spec import ModelSpec


def load(spec: ModelSpec, *, device: str, setting: Setting) -> Network:
    """Load the network of a spec; see `loading.load`.

    Channels last is the reference at every precision: at fp32 on a CPU that is 1.0 to 2.0 times as fast for the
    convolutional families (ResNet-50 1.1, MobileNetV3 1.5, DeepLabV3 1.6) and 0.9 for MaxViT and ViT.
    """
    if device == "cpu":
        keep_memory()
    network = (_embedded if spec.kind == "embedded" else _torchvision)(spec, device, setting)
    return Guarded(network, device=device, precision=setting.precision)


def fit_categories(spec: ModelSpec) -> ModelSpec:
    """Decide whether the categories of own weights count the background; see `checkpoint.fit_categories`."""
    if spec.kind == "embedded":
        return checkpoint.fit_categories(spec, efficientnet_lite0.shapes)
    import_torchvision()
    from cvbatch.inference.torch import torchvision_models as torchvision_network

    shapes: Callable[[int], Shapes] = partial(torchvision_network.shapes, spec.name)
    return checkpoint.fit_categories(spec, shapes)


def _embedded(spec: ModelSpec, device: str, setting: Setting) -> Forward:
    module = place(efficientnet_lite0.load(spec), device, setting)
    features = _compiled(efficientnet_lite0.Features(module), spec, device, setting)
    return efficientnet_lite0.Lite0(
        features, efficientnet_lite0.head(module), Normalised(efficientnet_lite0.MEAN, efficientnet_lite0.STD, device)
    )


def _compiled(module: nn.Module, spec: ModelSpec, device: str, setting: Setting) -> Callable[..., Any]:
    if not (setting.compiled and device == "cpu" and compilable(spec)):
        return module
    from cvbatch.inference.torch.aot_compile import Compiled

    return Compiled(module, spec, setting)


def _torchvision(spec: ModelSpec, device: str, setting: Setting) -> Forward:
    import_torchvision()
    from torchvision import models as zoo  # a job of the embedded model alone starts 1 s sooner without it

    from cvbatch.inference.torch import torchvision_models as torchvision_network
    from cvbatch.inference.torch.classifier import Classifier, WithFeatures
    from cvbatch.inference.torch.detector import Detector
    from cvbatch.inference.torch.segmenter import Segmenter

    module = place(torchvision_network.load(spec), device, setting)
    if spec.task == "detection":
        return Detector(module, device, padded=setting.padded)
    weights = zoo.get_model_weights(spec.name)
    transforms = (weights[spec.weights] if spec.weights else weights.DEFAULT).transforms()
    batch = Normalised(transforms.mean, transforms.std, device)
    if spec.task == "segmentation":
        return Segmenter(module, batch)
    return Classifier(_compiled(WithFeatures(module), spec, device, setting), batch)
