"""The families of torchvision's models: which tasks each does, and what runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Final

from torch import nn
from torchvision import models as zoo

from cvbatch.inference.network import Forward
from cvbatch.inference.settings import Setting
from cvbatch.inference.torch.classifier import Classifier, WithFeatures
from cvbatch.inference.torch.detector import Detector
from cvbatch.inference.torch.loading import compiled_if_set
from cvbatch.inference.torch.segmenter import Segmenter
from cvbatch.inference.torch.tensors import Normalised
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import CLASSIFICATION, DETECTION, EMBEDDING, SEGMENTATION, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Builders of one module of torchvision."""

    module: ModuleType
    """Where torchvision registers them."""
    tasks: tuple[Task, ...]
    """What can be taken from them; the first is the default."""
    forward: Callable[[nn.Module, ModelSpec, str, Setting], Forward]
    """From a module on its device, its spec, the device and the setting to what answers for images."""
    takes_lists: bool = False
    """Whether its networks take a list of images, of any sizes, instead of a batch."""


def family_of(builder: str) -> Family:
    """The family of a builder."""
    return next(family for family in FAMILIES if builder in zoo.list_models(module=family.module))


def _classifier(module: nn.Module, spec: ModelSpec, device: str, setting: Setting) -> Forward:
    return Classifier(compiled_if_set(WithFeatures(module), spec, device, setting), _normalised(spec, device))


def _detector(module: nn.Module, spec: ModelSpec, device: str, setting: Setting) -> Forward:
    return Detector(module, device, padded=setting.padded)


def _segmenter(module: nn.Module, spec: ModelSpec, device: str, setting: Setting) -> Forward:
    return Segmenter(module, _normalised(spec, device))


def _normalised(spec: ModelSpec, device: str) -> Normalised:
    weights = zoo.get_model_weights(spec.name)
    transforms = (weights[spec.weights] if spec.weights else weights.DEFAULT).transforms()
    return Normalised(transforms.mean, transforms.std, device)


FAMILIES: Final = (
    Family(module=zoo, tasks=(CLASSIFICATION, EMBEDDING), forward=_classifier),
    Family(module=zoo.detection, tasks=(DETECTION,), forward=_detector, takes_lists=True),
    Family(module=zoo.segmentation, tasks=(SEGMENTATION,), forward=_segmenter),
)
