"""What a kind of model is, without loading one."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.models.download import Report
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """One line of `cvbatch models`."""

    model: str
    tasks: tuple[str, ...]
    weights: str
    default: bool
    categories: str
    licence: str
    megabytes: float
    here: bool
    """Whether the weights are on this machine."""
    note: str


class Backend(ABC):
    """One kind of model: a row of `cvbatch.models.backends.BACKENDS`.

    A new one is a file with a subclass, and a row there; in a package of your own, an entry point in the group
    `cvbatch.backends`. It has no state, and imports nothing heavy: that is the business of its loader.
    """

    name: ClassVar[str]
    """What the plan calls it."""
    packages: ClassVar[Mapping[str, str]] = {}
    """What its loader imports: the name to install by name of the module."""
    loader: ClassVar[str]
    """The module that loads its models, imported only where they run. It has two functions:

    `load_network(spec, *, device, setting)`, which returns a `cvbatch.inference.network.Network`, and
    `complete_spec(spec)`, which returns a spec with what only the model itself can tell.
    """
    has_sources: ClassVar[bool] = False
    """Whether its models are somebody's own modules, so that `ModelSpec.files` tells of their sources."""
    memory_follows_work: ClassVar[bool] = False
    """Whether what a pass holds follows the network's work, and not its view's pixels, where answers have places."""

    @abstractmethod
    def understands_model(self, model: str) -> bool:
        """Whether a job means this kind by the name of a model."""

    def model_names(self) -> Iterable[str]:
        """Names of models that a person may have meant."""
        return ()

    def list_rows(self) -> Iterable[ModelRow]:
        """What `cvbatch models` lists."""
        return ()

    @abstractmethod
    def resolve_model(
        self, asked: ModelConfig, *, fetch: bool, folder: str | None, report: Report | None = None
    ) -> ModelSpec:
        """Check a model of a job, and find its weights and files.

        Args:
            asked: As in the job.
            fetch: Download weights that are not here; otherwise they only get their path.
            folder: Of the job file.
            report: Told how far a download is.

        Raises:
            ModelError: With the first thing that is wrong, in one line.
        """

    def needs_probe(self, spec: ModelSpec) -> bool:
        """Whether only loading the model can tell the rest of its spec; see `loader`."""
        return False

    def known_before_probe(self, spec: ModelSpec, data: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of a model before it is probed.

        Args:
            spec: As it was resolved.
            data: `to_json` of this model, or of the same one in the plan.

        Returns:
            The part of it that two starts can be compared by.
        """
        return dict(data)

    @abstractmethod
    def applicable_settings(self, spec: ModelSpec) -> frozenset[str]:
        """The fields of `cvbatch.inference.settings.InferenceSettings` that make a difference to a model.

        `device_decode` is one where the model takes what a GPU has decoded, and `scaled_decode` is none, as it is up
        to the view; no field at all is for models that decide for themselves how they run.
        """

    def network_key(self, spec: ModelSpec) -> Hashable:
        """Specs of this kind with equal keys share one network."""
        options = repr(sorted(spec.options.items()))
        return (spec.name, spec.weights, spec.weights_path, spec.seed, spec.categories, options)

    def has_random_weights(self, spec: ModelSpec) -> bool:
        """Whether the weights are random: such a model has no answers to protect."""
        return False

    def weight_bytes(self, spec: ModelSpec) -> int:
        """The size of the weights: that of their file, where it is here."""
        if spec.weights_path is not None and os.path.isfile(spec.weights_path):
            return os.path.getsize(spec.weights_path)
        return self.expected_weight_bytes(spec)

    def expected_weight_bytes(self, spec: ModelSpec) -> int:
        """The size of weights whose file is not here; 0 where only loading would tell."""
        return 0

    def display_name(self, spec: ModelSpec) -> str:
        """What to call a model in a message about loading it."""
        return f"{spec.name} with {spec.weights_path}"


def check_task_options(asked: ModelConfig, task: str) -> None:
    """Refuse options that belong to another task.

    Raises:
        ModelError: Naming the first one.
    """
    for other in TASKS.values():
        for option in other.options:
            if option in asked.model_fields_set and option not in TASKS[task].options:
                raise ModelError(f"{option}: belongs to {other.name}, but {asked.model} does {task} here: leave it out")
