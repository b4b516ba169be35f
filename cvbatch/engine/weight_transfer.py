"""Transfer weights from the driver's machine to each other machine, once, through Ray's object store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from cvbatch.models import weights
from cvbatch.models.spec import ModelSpec
from cvbatch.storage.location import is_object_uri
from cvbatch.system.cache_files import atomic_write_path, cache_file_path, lock_cache_file

_FOLDER: Final = "weights"


@dataclass(frozen=True, slots=True)
class TransferredWeights:
    """Contents of weight files in Ray's object store; pickled with the options of predict actors."""

    references: Mapping[str, Any] = field(default_factory=dict)
    """References to file contents, by sha256."""
    models_by_alias: Mapping[str, ModelSpec] = field(default_factory=dict)
    """Models with the paths that this attempt resolved, by alias: the plan may come from another machine."""

    @staticmethod
    def put_into_store(models: Iterable[ModelSpec], *, local: bool) -> TransferredWeights:
        """Put the weight files of models into Ray's object store.

        Args:
            models: Models whose weights are on this machine.
            local: Whether this machine is and stays the only one, so that no transfer is necessary.
        """
        import ray

        models = tuple(models)
        models_by_alias = {model.alias: replace(model, categories=()) for model in models}
        if local:
            return TransferredWeights(models_by_alias=models_by_alias)
        paths = {model.weights_sha256: model.weights_path for model in models if _has_local_file(model)}
        contents = {str(sha256): ray.put(np.fromfile(str(path), np.uint8)) for sha256, path in paths.items()}
        return TransferredWeights(contents, models_by_alias)

    def localize_plan_models(self, models: Iterable[ModelSpec]) -> tuple[ModelSpec, ...]:
        """Return the models of the plan with weights on this machine."""
        return self.fetch_local(
            model.with_files_of(self.models_by_alias[model.alias]) if model.alias in self.models_by_alias else model
            for model in models
        )

    def fetch_local(self, models: Iterable[ModelSpec]) -> tuple[ModelSpec, ...]:
        """Return the same models with weights on this machine."""
        return tuple(self._fetch_local_one(model) for model in models)

    def _fetch_local_one(self, model: ModelSpec) -> ModelSpec:
        reference = self.references.get(model.weights_sha256 or "")
        if reference is None or _is_same_file(Path(str(model.weights_path)), model):
            return model
        cached_file = cache_file_path(_FOLDER, {"sha256": model.weights_sha256}, Path(str(model.weights_path)).suffix)
        with lock_cache_file(cached_file):
            if not _is_same_file(cached_file, model):
                import ray

                with atomic_write_path(cached_file) as temporary_file:
                    ray.get(reference).tofile(temporary_file)
        return replace(model, weights_path=str(cached_file))


def _has_local_file(model: ModelSpec) -> bool:
    return bool(model.weights_path and model.weights_sha256) and not is_object_uri(str(model.weights_path))


def _is_same_file(path: Path, model: ModelSpec) -> bool:
    """Whether a file has the driver's content: on another machine the same path may hold another file."""
    return path.is_file() and weights.file_sha256(path) == model.weights_sha256
