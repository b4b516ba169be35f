"""Classification networks: class scores and embeddings from one forward pass."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn

from cvbatch.models.network import Answers, Image, Size
from cvbatch.models.spec import ModelSpec
from cvbatch.models.tensors import Normalised, to_numpy
from cvbatch.models.torchvision_network import Head, embedding_head


class Classifier:
    """A torchvision classifier.

    Args:
        module: Placed on its device.
        batch: Makes batches as the network's weights want them.
    """

    def __init__(self, module: nn.Module, batch: Normalised) -> None:
        self._module = module
        self._batch = batch
        self._features = _Features(embedding_head(module))

    def batch_key(self, image: Image) -> Hashable:
        """The size of the view."""
        return image.shape

    def run(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        """See `Network.run`."""
        logits = self._module(self._batch(images))
        answers = {
            "classification": to_numpy(torch.softmax(logits.float(), dim=1)),
            "embedding": to_numpy(self._features.pooled()),
        }
        return {spec.alias: list(answers[spec.task]) for spec in specs}


class _Features:
    """Keeps what went into a head in the last forward pass of each thread.

    Args:
        head: Watched from here on.
    """

    def __init__(self, head: Head) -> None:
        self._spatial = head.spatial
        self._kept = threading.local()
        head.module.register_forward_pre_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._kept.features = inputs[0]

    def pooled(self) -> Tensor:
        """(batch, dimension); positions averaged, if there are any."""
        features: Tensor = self._kept.features
        del self._kept.features
        return features.float().mean(dim=(2, 3)) if self._spatial else features
