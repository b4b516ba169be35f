"""Families of torchvision's models: the tasks of each, and the network that runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Final

from torch import nn
from torchvision import models as zoo

from cvbatch.inference.network import ForwardPass
from cvbatch.inference.settings import InferenceSettings
from cvbatch.inference.torch.classifier import ClassifierNetwork, ModuleWithFeatures
from cvbatch.inference.torch.detector import DetectorNetwork
from cvbatch.inference.torch.loading import compiled_if_set
from cvbatch.inference.torch.segmenter import SegmenterNetwork
from cvbatch.inference.torch.tensors import BatchNormalizer
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import CLASSIFICATION, DETECTION, EMBEDDING, SEGMENTATION, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderFamily:
    """Builders of one module of torchvision."""

    module: ModuleType
    """Module in which torchvision registers them."""
    tasks: tuple[Task, ...]
    """Tasks that they can do; the first is the default."""
    forward: Callable[[nn.Module, ModelSpec, str, InferenceSettings], ForwardPass]
    """Makes the forward pass from a module on its device, its spec, the device and the setting."""
    takes_lists: bool = False
    """Whether its networks take a list of images of any sizes, instead of a batch."""


def family_of(builder: str) -> BuilderFamily:
    """Return the family of a builder."""
    return next(family for family in FAMILIES if builder in zoo.list_models(module=family.module))


def _make_classifier(module: nn.Module, spec: ModelSpec, device: str, setting: InferenceSettings) -> ForwardPass:
    return ClassifierNetwork(
        compiled_if_set(ModuleWithFeatures(module), spec, device, setting), _make_normalizer(spec, device)
    )


def _make_detector(module: nn.Module, spec: ModelSpec, device: str, setting: InferenceSettings) -> ForwardPass:
    return DetectorNetwork(module, device, padded=setting.padded)


def _make_segmenter(module: nn.Module, spec: ModelSpec, device: str, setting: InferenceSettings) -> ForwardPass:
    return SegmenterNetwork(module, _make_normalizer(spec, device))


def _make_normalizer(spec: ModelSpec, device: str) -> BatchNormalizer:
    weights = zoo.get_model_weights(spec.name)
    transforms = (weights[spec.weights] if spec.weights else weights.DEFAULT).transforms()
    return BatchNormalizer(transforms.mean, transforms.std, device)


FAMILIES: Final = (
    BuilderFamily(module=zoo, tasks=(CLASSIFICATION, EMBEDDING), forward=_make_classifier),
    BuilderFamily(module=zoo.detection, tasks=(DETECTION,), forward=_make_detector, takes_lists=True),
    BuilderFamily(module=zoo.segmentation, tasks=(SEGMENTATION,), forward=_make_segmenter),
)
