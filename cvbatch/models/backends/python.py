"""The user's own models: a factory in a module, named `python:package.module:factory`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cvbatch.config.job import PYTHON as PREFIX
from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.images.preprocess import View
from cvbatch.models import own_files, own_modules
from cvbatch.models.backends.advice import file_for_a_model
from cvbatch.models.backends.base import Backend, check_task_options
from cvbatch.models.download import Report
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import CLASSIFICATION

_KNOWN: Final = ("kind", "name", "score_threshold", "normalize", "dtype", "options")
"""Fields of a spec that are known before the factory is called."""


class PythonBackend(Backend):
    """Models that a factory returns; see `cvbatch.inference.python.protocol`."""

    name = "python"
    has_sources = True
    loader = "cvbatch.inference.python.network"

    def understands_model(self, model: str) -> bool:
        """Whether the name has the prefix `python:`."""
        return model.startswith(PREFIX)

    def resolve_model(
        self, config: ModelConfig, *, fetch: bool, folder: str | None, report: Report | None = None
    ) -> ModelSpec:
        """See `Backend.resolve_model`."""
        name = config.model.removeprefix(PREFIX)
        module, _, factory = name.partition(":")
        if not factory.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
            hint = file_for_a_model(name) if "/" in name or name.partition(":")[0].endswith(".py") else ""
            raise ModelError(hint or f"expected python:package.module:factory, got {config.model!r}")
        for option in ("weights", "checkpoint", "sha256", "seed", "categories", "background"):
            if option in config.model_fields_set:
                raise ModelError(f"{option}: does not apply to {config.model}: pass it to the factory with options:")
        if config.task is not None:
            check_task_options(config, config.task)
        return ModelSpec(
            alias=config.alias or config.task or "",
            task=config.task or CLASSIFICATION.name,
            kind=self.name,
            name=name,
            view=View(),
            top_k=config.top_k,
            score_threshold=config.score_threshold,
            normalize=config.normalize,
            dtype=config.dtype,
            options=dict(config.options),
            folder=folder,
            files=own_files.hash_model_files(
                module, own_modules.folder_of_module(module, folder), config.options, folder
            ),
        )

    def needs_probe(self, spec: ModelSpec) -> bool:
        """Always true: the model describes itself."""
        return True

    def known_before_probe(self, spec: ModelSpec, data: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that the job sets."""
        return {**{key: data[key] for key in _KNOWN}, "tiles": data["view"].get("tiles")}

    def applicable_settings(self, spec: ModelSpec) -> frozenset[str]:
        """None: the model decides for itself how it runs."""
        return frozenset()

    def display_name(self, spec: ModelSpec) -> str:
        """The name in the job."""
        return f"{PREFIX}{spec.name}"


PYTHON: Final = PythonBackend()
