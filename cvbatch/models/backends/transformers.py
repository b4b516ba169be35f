"""Models of Hugging Face's transformers, in a folder or on the hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Final

from cvbatch.config.job import ModelConfig
from cvbatch.config.model_files import HUGGING_FACE
from cvbatch.errors import ModelError
from cvbatch.models import weights
from cvbatch.models.backends.base import check_brings_weights, check_task_options, fitting_top_k
from cvbatch.models.backends.hub import HubBackend
from cvbatch.models.download import Report
from cvbatch.models.spec import ModelSpec
from cvbatch.models.transformers.files import CONFIG

_DESCRIPTION: Final = (CONFIG, "preprocessor_config.json", "processor_config.json", "tokenizer.json")


class TransformersBackend(HubBackend):
    """Models that `hf:FOLDER` or `hf:NAME` names; see `cvbatch.models.transformers`."""

    name = "transformers"
    prefix = HUGGING_FACE
    packages: ClassVar[Mapping[str, str]] = {
        "transformers": "'cvbatch[transformers]'",
        "torch": "torch",
        "torchvision": "torchvision",
    }
    loader = "cvbatch.inference.torch.transformers_loading"
    memory_follows_work = True
    takes_prompts = True

    def resolve_model(
        self, config: ModelConfig, *, fetch: bool, folder: str | None, report: Report | None = None
    ) -> ModelSpec:
        """See `Backend.resolve_model`; all that the description says is checked before weights are fetched."""
        from cvbatch.models.transformers.files import find_model_folder
        from cvbatch.models.transformers.resolving import resolve_folder

        _check_options(config)
        found = find_model_folder(config, fetch=fetch, report=report)
        resolved = resolve_folder(found, config)
        task = resolved.task
        check_task_options(config, task.name)
        top_k = fitting_top_k(config, task, resolved.categories, found.title)
        path = found.weights_file()
        alias = config.alias or task.name
        return ModelSpec(
            alias=alias,
            task=task.name,
            kind=self.name,
            name=found.name,
            view=resolved.view,
            weights_path=str(path),
            weights_sha256=weights.check_file_hash(path, config.sha256 or "", name=found.title),
            categories=resolved.categories,
            label_map=f"categories of {alias}" if task.has_labels else "",
            licence=found.licence(),
            masks=resolved.masks,
            top_k=top_k,
            score_threshold=config.score_threshold,
            normalize=config.normalize,
            dtype=config.dtype,
            options=resolved.reading.to_options(),
        )

    def files_beside(self, checkpoint: Path) -> Iterable[Path]:
        """The description and the weights in the folder."""
        yield from (checkpoint / name for name in _DESCRIPTION)
        yield from sorted(checkpoint.glob("*.safetensors"))


TRANSFORMERS: Final = TransformersBackend()


def _check_options(config: ModelConfig) -> None:
    if config.model == HUGGING_FACE and not config.checkpoint:
        raise ModelError("hf: expected a model, as hf:NAME of the hub, or hf:FOLDER")
    if config.model != HUGGING_FACE and config.checkpoint:
        raise ModelError(f"{config.model} and checkpoint: {config.checkpoint} contradict each other: give one of them")
    check_brings_weights(config, "transformers")
    if config.options:
        raise ModelError(f"options: belong to python: and onnx: models, not to {config.model}: leave them out")
    if config.background:
        raise ModelError(f"background: {config.model} names its classes itself: leave it out")
