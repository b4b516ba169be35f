"""Networks that estimate depth: a map for each image, at the size that the network gives."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from cvbatch.images.preprocess import Size
from cvbatch.inference.network import Answers, Image
from cvbatch.inference.torch.tensors import BatchNormalizer, to_numpy
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS


class DepthNetwork:
    """A network for depth.

    Args:
        module: Maps a batch to depths, (images, height, width), on its device.
        batch: Makes batches with the normalization of the network's weights.
    """

    def __init__(self, module: nn.Module, batch: BatchNormalizer) -> None:
        self._module, self._batch = module, batch

    def batch_key(self, image: Image) -> Hashable:
        """The shape of the image."""
        return image.shape

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        """See `ForwardPass.run_batch`."""
        outputs = DepthOutputs(list(to_numpy(self._module(self._batch(images))[: len(images)])))
        return {spec.alias: TASKS[spec.task].take_answers(outputs, spec) for spec in specs}


@dataclass(frozen=True, slots=True)
class DepthOutputs:
    """Outputs for a batch."""

    depths: Sequence[npt.NDArray[np.floating[Any]]]
    """One per image, (height, width) over the whole image."""
