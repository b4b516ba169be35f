"""The job of a training, which is validated as a whole before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from cvbatch.config.compute import ConfigSection, Count, StorageSection, check_location_options
from cvbatch.config.job import ModelConfig, OutputConfig, SourceConfig, Task
from cvbatch.storage.local_paths import to_local_path
from cvbatch.storage.location import Location, is_object_uri
from cvbatch.storage.options import OPTION_NAMES
from cvbatch.tasks import TASKS

_Text = Annotated[str, Field(min_length=1)]
_Positive = Annotated[float, Field(gt=0)]
_Share = Annotated[float, Field(gt=0, lt=1)]
TENSORBOARD: Final = "tensorboard"
MLFLOW: Final = "mlflow"
_FREE: Final = ("output", "compute", "card", "log")
"""Sections that another attempt at a training may change."""


OF_PREDICTIONS: Final = ("model", "min_score", "corrections")
"""Keys of `truth` that belong to the predictions of a run."""


class TruthConfig(StorageSection):
    """What is known about the images: any truth that `cvbatch evaluate` reads, or the output of `cvbatch run`."""

    uri: _Text
    """A file or a folder, local or in a bucket; an output, to learn from its predictions."""
    image_column: str | None = None
    """Column of a table that names the images; None for one with a usual name."""
    label_column: str | None = None
    """Column of a table with the classes; None for one with a usual name."""
    ignored_value: int | None = 255
    """Value of mask pixels that do not count; null if all count."""
    model: _Text | None = None
    """Predictions: alias of the model, where the run has several."""
    min_score: Annotated[float, Field(ge=0, le=1)] | None = None
    """Predictions: images whose best class has a lower score take no part."""
    corrections: _Text | None = None
    """Predictions: truth that replaces those of its images."""

    @model_validator(mode="after")
    def _check_location(self) -> TruthConfig:
        check_location_options(self.uri, self)
        return self

    @property
    def location(self) -> Location:
        """The location with its storage options."""
        return Location.from_uri(self.uri, self.storage_options)

    @property
    def corrections_location(self) -> Location:
        """The location of the corrections; in a bucket with the same storage options."""
        assert self.corrections is not None, "the job has corrections"
        options = self.storage_options if is_object_uri(self.corrections) else None
        return Location.from_uri(self.corrections, options)


class SplitConfig(ConfigSection):
    """Which images are not trained on, but used to choose the best weights."""

    validation: _Share = 0.2
    """Share of the images."""
    by: str | None = None
    """Keep images together that agree in this: `folder`, or a column of the source; by default those that look the
    same."""
    file: str | None = None
    """A text file with one image a line: exactly these are for validation."""


class AugmentConfig(ConfigSection):
    """Random changes of training images; boxes and masks move along."""

    crop: tuple[_Positive, float] = (0.5, 1.0)
    """Least and greatest share of the area that a random crop keeps; [1, 1] for the whole image."""
    aspect: _Positive = 4 / 3
    """Greatest factor by which a crop's proportions change."""
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability of a mirror image; 0 where left and right differ, as in texts."""
    colour: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Greatest change of brightness, contrast and saturation."""

    @model_validator(mode="after")
    def _check_crop(self) -> AugmentConfig:
        if not self.crop[0] <= self.crop[1] <= 1:
            raise ValueError(f"crop: expected two shares of the area such as [0.5, 1], got {list(self.crop)}")
        return self


NO_CHANGES: Final = AugmentConfig(crop=(1.0, 1.0), aspect=1.0, flip=0.0, colour=0.0)
Layers = Literal["head", "all"] | tuple[_Text, ...]


class LearningStage(ConfigSection):
    """Some epochs with the same layers and rates."""

    layers: Layers = "all"
    """What learns: `head` for what depends on the classes, `all`, or prefixes of names of parameters."""
    epochs: Count
    rate: _Positive = 1e-3
    """Learning rate of the head."""
    backbone_rate: Annotated[float, Field(ge=0)] | None = None
    """Learning rate of all other layers; by default a tenth of `rate`."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Not of biases and norms."""
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the stage in which the rate rises from zero."""
    batch_norms: Literal["learn", "keep"] = "learn"
    """Whether batch norms normalise by each batch, or keep the statistics that they have."""
    accumulate: Count = 1
    """Batches for one change of the weights."""
    clip: _Positive | None = None
    """Greatest norm of the gradient."""
    augment: AugmentConfig | Literal["none"] | None = None
    """Replaces that of the job; by default a stage of the head alone has none, so that features are computed once."""


_DEFAULT_STAGES: Final = (
    LearningStage(layers="head", epochs=10, rate=1e-3),
    LearningStage(layers="all", epochs=5, rate=1e-3, backbone_rate=1e-4),
)


class LossConfig(ConfigSection):
    """What is minimised; the parts are those of torchvision."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["balanced"] | Mapping[str, _Positive] | None = None
    """`balanced` for the inverse of how often a class occurs, or a factor for each class that is not 1."""
    localisation: Annotated[float, Field(ge=0)] = 1.0
    """Detection: λ, the weight of the localisation loss."""
    auxiliary: Annotated[float, Field(ge=0)] = 0.5
    """Segmentation: weight of the loss of the auxiliary head."""


class TrainComputeConfig(ConfigSection):
    """Where and how fast; all but the precision may differ between attempts."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: Count = 1
    """Processes that each work on a part of every batch; with GPUs one for each."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Type of most operations; weights stay float32."""
    readers: Count | Literal["auto"] = "auto"
    """Threads of each process that fetch and decode images."""
    checkpoint_minutes: _Positive = 10.0
    """Longest time between two checkpoints; one more is written after each epoch."""
    restarts: Annotated[int, Field(ge=0)] = 3
    """How often workers that died are started again, before the command ends."""
    ray_start_timeout: _Positive = 60.0
    """Seconds for Ray to start."""


class CardConfig(ConfigSection):
    """What only a person knows of a model; it goes into its card."""

    intended_use: str | None = None
    """What the model is for; by default a sentence about its classes."""
    limits: str | None = None
    """What it must not be used for, or where it is known to be wrong."""
    licence: str | None = None
    """Licence of the result; by default that of the weights that the training starts with."""


class TrainJob(ConfigSection):
    """A whole job of `cvbatch train`."""

    task: Task
    """What the model learns."""
    model: ModelConfig
    """The network and the weights to start with, as in a job of `cvbatch run`; an earlier result, too."""
    source: SourceConfig
    truth: TruthConfig
    output: OutputConfig
    split: SplitConfig = SplitConfig()
    stages: Annotated[tuple[LearningStage, ...], Field(min_length=1)] = _DEFAULT_STAGES
    batch_size: Count = 32
    """Images of one step, over all workers."""
    image_size: Annotated[int, Field(ge=16, le=4096)] | None = None
    """Pixels of the longer side of what the network sees; by default as for the published weights."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Probability in all dropout layers; by default the network's own."""
    loss: LossConfig = LossConfig()
    augment: AugmentConfig | Literal["none"] = AugmentConfig()
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of averaged weights, such as 0.999; the averages are validated and kept."""
    early_stopping: Count | None = None
    """End after so many epochs without a better validation metric."""
    seed: Annotated[int, Field(ge=0)] = 0
    card: CardConfig = CardConfig()
    log: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    """Who else is told about losses, metrics and rates; MLflow on the server that `MLFLOW_TRACKING_URI` names."""
    compute: TrainComputeConfig = TrainComputeConfig()

    @model_validator(mode="before")
    @classmethod
    def _expand_names(cls, data: Any) -> Any:
        return expand_names(data) if isinstance(data, Mapping) else data

    @field_validator("task")
    @classmethod
    def _check_task(cls, value: Task) -> Task:
        if value not in TASKS:
            raise ValueError(f"expected one of {', '.join(TASKS)}, got {value!r}")
        return value

    @model_validator(mode="after")
    def _check_parts(self) -> TrainJob:
        if self.batch_size % self.compute.workers:
            raise ValueError(
                f"batch_size: expected a multiple of compute.workers, {self.compute.workers}, got {self.batch_size}"
            )
        return self

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)

    def stage_of(self, epoch: int) -> tuple[int, int]:
        """Stage of an epoch, and the number of the epoch in it; both from 0 on.

        Args:
            epoch: From 0 on; the number of all epochs gives the last stage, and its number of epochs.
        """
        for number, stage in enumerate(self.stages):
            if epoch < stage.epochs or number == len(self.stages) - 1:
                return number, epoch
            epoch -= stage.epochs
        raise AssertionError("there is at least one stage")

    def changes_in(self, stage: int) -> AugmentConfig:
        """How images are changed in a stage."""
        own = self.stages[stage].augment
        if own is None:
            own = "none" if self.stages[stage].layers == "head" else self.augment
        return NO_CHANGES if isinstance(own, str) else own

    def identity(self) -> dict[str, Any]:
        """The options that must be equal for two attempts to be the same training, as plain data."""
        data = self.model_dump(mode="json", exclude=set(_FREE))
        for name in ("source", "truth", "model"):
            data[name] = {key: value for key, value in data[name].items() if key not in OPTION_NAMES}
        for key in OF_PREDICTIONS:  # younger than the first trainings that are stored
            if data["truth"][key] is None:
                del data["truth"][key]
        data["source"]["uri"] = [to_local_path(uri) or uri for uri in self.source.uris]
        return {**data, "precision": self.compute.precision}


def expand_names(data: Mapping[str, Any]) -> dict[str, Any]:
    """Write out `model: NAME` and `truth: PATH`, which stand for sections with one key."""
    expanded = dict(data)
    for name, key in (("model", "model"), ("truth", "uri"), ("source", "uri"), ("output", "uri")):
        if isinstance(expanded.get(name), str):
            expanded[name] = {key: expanded[name]}
    return expanded
