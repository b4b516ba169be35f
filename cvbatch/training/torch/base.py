"""What differs between tasks when something is learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from cvbatch.config.train_job import AugmentConfig, TrainJob
from cvbatch.images.decode import DecodedImage
from cvbatch.training.plan import TrainingPlan
from cvbatch.training.torch.losses import LossParts
from cvbatch.training.torch.networks import LearningNetwork

Example = Any
"""What a task makes of one image and its target, in a reading thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """What a task is made from."""

    job: TrainJob
    plan: TrainingPlan
    network: LearningNetwork
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlace:
    """Which image is read for which epoch."""

    image: int
    """Its `row_id`."""
    epoch: int
    seed: int
    changes: AugmentConfig | None
    """None for validation: the image as a run sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedHead:
    """A head that learns alone, from features of the images that are computed once."""

    head: nn.Module
    """Maps features to what `loss_parts` takes; its parameters are those of the network."""
    inputs: nn.Module
    """Maps a batch to the features; frozen."""


class TrainingTask(Protocol):
    """One task; made by `make_task(context)` of the module that `TARGET_KINDS` names."""

    metric: str
    """Name of the validation metric that decides which epoch is best; greater is better."""

    def make_example(self, decoded: DecodedImage, target: Any, place: ImagePlace) -> Example:
        """Prepare one image and its target, changed at random if the place says so; runs in several threads."""

    def collate(self, examples: Sequence[Example]) -> tuple[Any, Any]:
        """Inputs and targets of a batch, on the device."""

    def compute_loss(self, module: nn.Module, inputs: Any, targets: Any) -> LossParts:
        """Run the network in training mode on a worker's part of a batch."""

    def answer(self, module: nn.Module, inputs: Any, targets: Any) -> Mapping[str, Any]:
        """Run the network in evaluation mode: NumPy arrays with one row for each image (or object), by name."""

    def score(self, answers: Sequence[Mapping[str, Any]]) -> Mapping[str, float | None]:
        """Metrics of all answers to the validation images, with `metric` among them; by `cvbatch.evaluation`."""

    def cached_head(self, network: LearningNetwork) -> CachedHead | None:
        """The part of the network after the features, if features can be computed once; None if they cannot."""
