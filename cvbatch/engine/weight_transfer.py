"""Weights that lie on the driver's machine reach each other machine once, through the cluster's store."""

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
    """Contents of weight files in the cluster's store; travels with whatever loads models."""

    references: Mapping[str, Any] = field(default_factory=dict)
    """By sha256."""
    found: Mapping[str, ModelSpec] = field(default_factory=dict)
    """By alias, where this start has found the files of each model: the plan may have been made on another machine."""

    @staticmethod
    def put_into_store(models: Iterable[ModelSpec], *, local: bool) -> TransferredWeights:
        """Put the files of some models into the cluster's store.

        Args:
            models: Whose weights lie on this machine.
            local: This machine is the only one and stays that, so nothing is put there.
        """
        import ray

        models = tuple(models)
        found = {model.alias: replace(model, categories=()) for model in models}
        if local:
            return TransferredWeights(found=found)
        paths = {model.weights_sha256: model.weights_path for model in models if _has_local_file(model)}
        contents = {str(sha256): ray.put(np.fromfile(str(path), np.uint8)) for sha256, path in paths.items()}
        return TransferredWeights(contents, found)

    def localize_plan_models(self, models: Iterable[ModelSpec]) -> tuple[ModelSpec, ...]:
        """The models of the plan, with weights that lie on this machine."""
        return self.fetch_local(
            model.with_files_of(self.found[model.alias]) if model.alias in self.found else model for model in models
        )

    def fetch_local(self, models: Iterable[ModelSpec]) -> tuple[ModelSpec, ...]:
        """The same models with weights that lie on this machine."""
        return tuple(self._fetch_local_one(model) for model in models)

    def _fetch_local_one(self, model: ModelSpec) -> ModelSpec:
        reference = self.references.get(model.weights_sha256 or "")
        if reference is None or _is_same_file(Path(str(model.weights_path)), model):
            return model
        kept = cache_file_path(_FOLDER, {"sha256": model.weights_sha256}, Path(str(model.weights_path)).suffix)
        with lock_cache_file(kept):
            if not _is_same_file(kept, model):
                import ray

                with atomic_write_path(kept) as part:
                    ray.get(reference).tofile(part)
        return replace(model, weights_path=str(kept))


def _has_local_file(model: ModelSpec) -> bool:
    return bool(model.weights_path and model.weights_sha256) and not is_object_uri(str(model.weights_path))


def _is_same_file(path: Path, model: ModelSpec) -> bool:
    """Whether a file is what the driver found under its name: on another machine that may be something else."""
    return path.is_file() and weights.file_sha256(path) == model.weights_sha256
