"""Learning to detect, by the kind of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from cvbatch.models.backends.nanodet import NANODET
from cvbatch.models.backends.torchvision import TORCHVISION
from cvbatch.training.torch.base import TaskContext
from cvbatch.training.torch.boxes import BoxLearning
from cvbatch.training.torch.nanodet import NanoDetLearning
from cvbatch.training.torch.torchvision_detectors import TorchvisionLearning

_BY_KIND: Final[Mapping[str, Callable[[TaskContext], BoxLearning]]] = {
    NANODET.name: NanoDetLearning,
    TORCHVISION.name: TorchvisionLearning,
}


def make_task(context: TaskContext) -> BoxLearning:
    """See `TrainingTask`."""
    return _BY_KIND[context.plan.start.kind](context)
