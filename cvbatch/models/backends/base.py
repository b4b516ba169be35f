"""Interface of a kind of model; importing it loads no model."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cvbatch.config.job import DEFAULT_WEIGHTS, ModelConfig
from cvbatch.errors import ModelError
from cvbatch.models.download import Report
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS, Task


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

    To add a kind, write a file with a subclass and add a row to that table; in your own package, add an entry point in
    the group `cvbatch.backends`. A backend has no state and imports nothing heavy; only its loader does.
    """

    name: ClassVar[str]
    """Name of the kind in the plan."""
    packages: ClassVar[Mapping[str, str]] = {}
    """Modules that its loader imports, each with the name to install it by."""
    loader: ClassVar[str]
    """The module that loads its models, imported only where they run. It has two functions:

    `load_network(spec, *, device, setting)`, which returns a `cvbatch.inference.network.Network`, and
    `complete_spec(spec)`, which adds to a spec the facts that only the model knows.
    """
    has_sources: ClassVar[bool] = False
    """Whether its models are the user's modules, so that `ModelSpec.files` lists their sources."""
    memory_follows_work: ClassVar[bool] = False
    """Whether the memory of a pass that locates objects grows with the network's work, not with the view's pixels."""

    takes_prompts: ClassVar[bool] = False
    """Whether some of its models look for what `prompts:` says."""

    @abstractmethod
    def understands_model(self, model: str) -> bool:
        """Whether a model name of a job belongs to this kind."""

    def model_names(self) -> Iterable[str]:
        """Known model names, for hints in error messages."""
        return ()

    def list_rows(self) -> Iterable[ModelRow]:
        """The rows that `cvbatch models` lists for this kind."""
        return ()

    @abstractmethod
    def resolve_model(
        self, config: ModelConfig, *, fetch: bool, folder: str | None, report: Report | None = None
    ) -> ModelSpec:
        """Check a model of a job, and find its weights and files.

        Args:
            config: As in the job.
            fetch: Download missing weights; if false, only their path is determined.
            folder: The job file's folder.
            report: Called with the progress of a download.

        Raises:
            ModelError: The first problem, in one line.
        """

    def needs_probe(self, spec: ModelSpec) -> bool:
        """Whether the spec is complete only after loading the model; see `loader`."""
        return False

    def known_before_probe(self, spec: ModelSpec, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of a stored spec that is known before the model is probed.

        Args:
            spec: The resolved, not yet probed spec.
            data: `to_json` of this model, or of the same one in the plan.

        Returns:
            The fields that can be compared between two attempts.
        """
        return dict(data)

    @abstractmethod
    def applicable_settings(self, spec: ModelSpec) -> frozenset[str]:
        """The fields of `cvbatch.inference.settings.InferenceSettings` that affect a model.

        Include `device_decode` if the model accepts images that a GPU decoded. Leave out `scaled_decode`, which depends
        on the view. A model that decides for itself how it runs has none.
        """

    def network_key(self, spec: ModelSpec) -> Hashable:
        """Specs of this kind with equal keys share one network."""
        options = repr(sorted(spec.options.items()))
        return (spec.name, spec.weights, spec.weights_path, spec.seed, spec.categories, options)

    def has_random_weights(self, spec: ModelSpec) -> bool:
        """Whether the weights are random; the answers of such a model need no certificate."""
        return False

    def weight_bytes(self, spec: ModelSpec) -> int:
        """The size of the weights, in bytes: that of their file, if it is on this machine."""
        if spec.weights_path is not None and os.path.isfile(spec.weights_path):
            return os.path.getsize(spec.weights_path)
        return self.expected_weight_bytes(spec)

    def expected_weight_bytes(self, spec: ModelSpec) -> int:
        """The size of weights, in bytes, whose file is not on this machine; 0 if it is unknown before loading."""
        return 0

    def files_beside(self, checkpoint: Path) -> Iterable[Path]:
        """Possible files that belong to a checkpoint on this machine; if one changes, the model is compared anew."""
        return ()

    def display_name(self, spec: ModelSpec) -> str:
        """Name of a model in messages about loading it."""
        return f"{spec.name} with {spec.weights_path}"


def check_prompts(backend: Backend, config: ModelConfig) -> None:
    """Refuse prompts for a kind of model that has none.

    Raises:
        ModelError: There are some.
    """
    for name, value in (("prompts", config.prompts), ("template", config.template)):
        if value is not None and not backend.takes_prompts:
            raise ModelError(f"{name}: {config.model} compares images with no texts: leave it out, or take CLIP by hf:")


def check_brings_weights(config: ModelConfig, framework: str) -> None:
    """Refuse options about weights for a model whose files have them.

    Args:
        config: As in the job.
        framework: Name in the message.

    Raises:
        ModelError: The first such option.
    """
    if config.weights != DEFAULT_WEIGHTS:
        raise ModelError(f"weights: a model of {framework} has its own: leave weights: {config.weights} out")
    if "seed" in config.model_fields_set:
        raise ModelError(f"seed: belongs to `weights: null`, and a model of {framework} has weights: leave it out")


def fitting_top_k(config: ModelConfig, task: Task, categories: Sequence[str | None], title: str) -> int:
    """Return `top_k`, or the number of named categories if that is less; 0 of them means that they are unknown.

    Raises:
        ModelError: The job asks for more than there are.
    """
    named = sum(name is not None for name in categories)
    if task.has_labels and config.top_k > named and "top_k" in config.model_fields_set:
        raise ModelError(f"{title}: expected top_k of at most its {named} categories, got {config.top_k}")
    return min(config.top_k, named) if named else config.top_k


def check_task_options(config: ModelConfig, task: str) -> None:
    """Refuse options that belong to another task; all options of models are those of our own tasks.

    Raises:
        ModelError: The first such option.
    """
    for other in TASKS.own_rows():
        for option in other.options:
            if option in config.model_fields_set and option not in TASKS[task].options:
                raise ModelError(
                    f"{option}: belongs to {other.name}, but {config.model} does {task} here: leave it out"
                )
