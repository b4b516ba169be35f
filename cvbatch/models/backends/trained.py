"""Results of `cvbatch train`: a folder names its network, its classes and its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from cvbatch.config.job import ModelConfig
from cvbatch.config.model_files import TRAINED
from cvbatch.errors import ModelError
from cvbatch.models.backends.base import Backend, check_brings_weights
from cvbatch.models.download import Report
from cvbatch.models.spec import ModelSpec
from cvbatch.models.trained import read_trained_model
from cvbatch.storage.location import Location

NOT_EMITTED: Final = "N/A"


class TrainedBackend(Backend):
    """Folders that `--model FOLDER` names; what runs is a model of another kind, with its own weights.

    Args:
        backend_for: Finds the kind of the network.
    """

    name = "trained"
    loader = ""

    def __init__(self, backend_for: Callable[[str], Backend]) -> None:
        self._backend_for = backend_for

    def understands_model(self, model: str) -> bool:
        """Whether it is `trained`, with a folder in `checkpoint`."""
        return model == TRAINED

    def resolve_model(
        self, config: ModelConfig, *, fetch: bool, folder: str | None, report: Report | None = None
    ) -> ModelSpec:
        """See `Backend.resolve_model`; the spec is that of the network, with these weights, classes and view."""
        if not config.checkpoint:
            raise ModelError("trained: expected the folder of a training in checkpoint:, or as --model FOLDER")
        check_brings_weights(config, "cvbatch train")
        for option in ("categories", "background"):
            if option in config.model_fields_set:
                raise ModelError(f"{option}: {config.checkpoint} names its classes itself: leave it out")
        place = Location.from_uri(config.checkpoint, config.storage_options)
        trained = read_trained_model(place)
        own = config.model_copy(
            update={
                "model": trained.model,
                "checkpoint": f"{config.checkpoint.rstrip('/')}/{trained.weights}",
                "categories": [name or NOT_EMITTED for name in trained.categories],
                "task": config.task or trained.task,
                "sha256": config.sha256 or trained.sha256,
            }
        )
        spec = self._backend_for(trained.model).resolve_model(own, fetch=fetch, folder=folder, report=report)
        view = trained.view if spec.task == trained.task else spec.view
        return replace(spec, view=view, licence=trained.licence)

    def known_before_probe(self, spec: ModelSpec, data: Mapping[str, Any]) -> dict[str, Any]:
        """Never asked: specs are those of other kinds."""
        raise AssertionError("a trained model is resolved to one of another kind")

    def applicable_settings(self, spec: ModelSpec) -> frozenset[str]:
        """None; specs are those of other kinds."""
        return frozenset()
