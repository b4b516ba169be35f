"""Classification networks: class scores and embeddings from one forward pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cvbatch.images.preprocess import Size
from cvbatch.inference.network import Answers, Image
from cvbatch.inference.torch.tensors import BatchNormalizer, to_numpy
from cvbatch.inference.torch.torchvision_models import embedding_head
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS


class ClassifierNetwork:
    """A torchvision classifier.

    Args:
        forward: Maps a batch to logits and features; see `ModuleWithFeatures`.
        batch: Makes batches with the normalization of the network's weights.
    """

    def __init__(self, forward: Callable[[Tensor], tuple[Tensor, Tensor]], batch: BatchNormalizer) -> None:
        self._forward = forward
        self._batch = batch

    def batch_key(self, image: Image) -> Hashable:
        """The shape of the image."""
        return image.shape

    def outputs_of(self, logits: Tensor, features: Tensor) -> ClassifierOutputs:
        """Wrap the tensors of a batch."""
        return ClassifierOutputs(logits, features)

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        """See `ForwardPass.run_batch`."""
        logits, features = (output[: len(images)] for output in self._forward(self._batch(images)))
        outputs = self.outputs_of(logits, features)
        return {spec.alias: TASKS[spec.task].take_answers(outputs, spec) for spec in specs}


class ClassifierOutputs:
    """Outputs for a batch; each part is computed once, when a task reads it.

    Args:
        logits: (images, classes)
        features: (images, dimension)
    """

    def __init__(self, logits: Tensor, features: Tensor) -> None:
        self._logits, self._features = logits, features

    @cached_property
    def scores(self) -> list[npt.NDArray[np.float32]]:
        """Probabilities of the classes for each image, (classes,)."""
        return list(to_numpy(torch.softmax(self._logits.float(), dim=1)))

    @cached_property
    def vectors(self) -> list[npt.NDArray[np.float32]]:
        """A feature vector for each image, (dimension,)."""
        return list(to_numpy(self._features))


class ModuleWithFeatures(nn.Module):
    """A network that also returns the input of its head.

    Args:
        module: Module on its device.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module
        head = embedding_head(module)
        self._spatial = head.spatial
        self._head_input = threading.local()
        head.module.register_forward_pre_hook(self._store_features)

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (batch, classes) and features (batch, dimension), averaged over positions if there are any."""
        logits = self._module(batch)
        features: Tensor = self._head_input.features
        del self._head_input.features
        return logits, features.float().mean(dim=(2, 3)) if self._spatial else features

    def _store_features(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._head_input.features = inputs[0]
