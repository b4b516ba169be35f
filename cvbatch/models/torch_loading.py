"""From a spec to a torch network on its device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from cvbatch.models import checkpoint, lite0
from cvbatch.models.checkpoint import Shapes
from cvbatch.models.memory import keep_memory
from cvbatch.models.network import Forward, Network
from cvbatch.models.spec import ModelSpec
from cvbatch.models.tensors import Guarded, Normalised, place


def load(spec: ModelSpec, *, device: str, precision: str) -> Network:
    """Load the network of a spec; see `loading.load`.

    Convolutions are channels-last at every precision: at fp32 on a CPU that is 1.0 to 2.0 times as fast for the
    convolutional families (ResNet-50 1.1, MobileNetV3 1.5, DeepLabV3 1.6) and 0.9 for MaxViT and ViT.
    """
    if device == "cpu":
        keep_memory()
    if spec.kind == "embedded":
        module = place(lite0.load(spec), device, precision)
        batch = Normalised(lite0.MEAN, lite0.STD, device)
        network: Forward = lite0.Lite0(module, batch)
    else:
        network = _torchvision(spec, partial(place, device=device, precision=precision), device)
    return Guarded(network, device=device, precision=precision)


def fit_categories(spec: ModelSpec) -> ModelSpec:
    """Decide whether the categories of own weights count the background; see `checkpoint.fit_categories`."""
    if spec.kind == "embedded":
        return checkpoint.fit_categories(spec, lite0.shapes)
    from cvbatch.models import torchvision_network

    shapes: Callable[[int], Shapes] = partial(torchvision_network.shapes, spec.name)
    return checkpoint.fit_categories(spec, shapes)


def _torchvision(spec: ModelSpec, place_on: Callable[..., nn.Module], device: str) -> Forward:
    from torchvision import models as zoo  # a job of the embedded model alone starts 1 s sooner without it

    from cvbatch.models import torchvision_network
    from cvbatch.models.classifier import Classifier
    from cvbatch.models.detector import Detector
    from cvbatch.models.segmenter import Segmenter

    module = place_on(torchvision_network.load(spec))
    if spec.task == "detection":
        return Detector(module, device)
    weights = zoo.get_model_weights(spec.name)
    transforms = (weights[spec.weights] if spec.weights else weights.DEFAULT).transforms()
    batch = Normalised(transforms.mean, transforms.std, device)
    return Segmenter(module, batch) if spec.task == "segmentation" else Classifier(module, batch)
