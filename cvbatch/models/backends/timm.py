"""Models of timm: of its registry, of the hub, in a folder, or with weights of the user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Final

from cvbatch.config.job import DEFAULT_WEIGHTS, ModelConfig
from cvbatch.config.model_files import TIMM as NAME
from cvbatch.errors import ModelError
from cvbatch.models import weights
from cvbatch.models.backends.base import check_task_options, fitting_top_k
from cvbatch.models.backends.hub import HubBackend
from cvbatch.models.download import Report
from cvbatch.models.own_weights import find_own_checkpoint
from cvbatch.models.spec import ModelSpec
from cvbatch.models.transformers.files import CONFIG
from cvbatch.storage.location import is_object_uri


class TimmBackend(HubBackend):
    """Models that `timm:NAME` or `timm:FOLDER` names; see `cvbatch.models.timm`."""

    name = NAME
    prefix = NAME
    packages: ClassVar[Mapping[str, str]] = {
        "timm": "'cvbatch[timm]'",
        "torch": "torch",
        "torchvision": "torchvision",
    }
    loader = "cvbatch.inference.torch.timm_loading"

    def resolve_model(
        self, config: ModelConfig, *, fetch: bool, folder: str | None, report: Report | None = None
    ) -> ModelSpec:
        """See `Backend.resolve_model`; all but the weights is checked before they are fetched."""
        from cvbatch.models.timm.resolving import resolve_source
        from cvbatch.models.timm.sources import find_source

        _check_options(config)
        source = find_source(config, fetch=fetch, report=report)
        resolved = resolve_source(source, config)
        task = resolved.task
        check_task_options(config, task.name)
        top_k = fitting_top_k(config, task, resolved.categories, source.title)
        path, sha256 = None, None
        if source.folder is not None:
            file = source.folder.weights_file()
            path, sha256 = str(file), weights.check_file_hash(file, config.sha256 or "", name=source.title)
        elif config.checkpoint:
            path, sha256 = find_own_checkpoint(config.checkpoint, config.storage_options, config.sha256)
        alias = config.alias or task.name
        return ModelSpec(
            alias=alias,
            task=task.name,
            kind=self.name,
            name=source.name,
            view=resolved.view,
            weights_path=path,
            weights_storage=config.storage_options if path is not None and is_object_uri(path) else None,
            weights_sha256=sha256,
            seed=config.seed,
            categories=resolved.categories,
            label_map=resolved.label_map or (f"categories of {alias}" if task.has_labels else ""),
            licence=resolved.licence,
            top_k=top_k,
            normalize=config.normalize,
            dtype=config.dtype,
            options=resolved.reading.to_options(),
        )

    def has_random_weights(self, spec: ModelSpec) -> bool:
        """Whether there is no file."""
        return spec.weights_path is None

    def files_beside(self, checkpoint: Path) -> Iterable[Path]:
        """The description."""
        return (checkpoint.with_name(CONFIG),)


TIMM: Final = TimmBackend()


def _check_options(config: ModelConfig) -> None:
    if config.model == NAME and not config.checkpoint:
        raise ModelError(
            "timm: expected a model, as timm:NAME (timm.list_models() lists them), timm:hf-hub:OWNER/NAME or "
            "timm:./FOLDER"
        )
    if config.weights not in (None, DEFAULT_WEIGHTS):
        raise ModelError(
            f"weights: {config.weights}: timm's weights are a part of the name, as vit_tiny_patch16_224.augreg_in21k: "
            "leave weights: out"
        )
    if config.model == NAME and config.weights is None:
        raise ModelError(f"weights: the folder {config.checkpoint} has its own: leave weights: null out")
    if "seed" in config.model_fields_set and config.weights is not None:
        raise ModelError(f"seed: belongs to `weights: null`, but {config.model} has weights: leave it out")
    if config.weights is None and config.sha256 and not config.checkpoint:
        raise ModelError(f"sha256: {config.model} has random weights and no file: leave it out")
    if config.options:
        raise ModelError(f"options: belong to python: and onnx: models, not to {config.model}: leave them out")
