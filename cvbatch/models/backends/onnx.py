"""ONNX files, which exporters of all frameworks write; ONNX Runtime runs them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Final

from cvbatch.config.job import ModelConfig
from cvbatch.config.model_files import ONNX as NAME
from cvbatch.errors import ModelError
from cvbatch.models.backends.base import Backend, check_brings_weights, check_task_options, fitting_top_k
from cvbatch.models.download import Report
from cvbatch.models.spec import ModelSpec
from cvbatch.storage.location import is_object_uri


class OnnxBackend(Backend):
    """Files that `onnx:FILE` names; see `cvbatch.models.onnx`."""

    name = NAME
    packages: ClassVar[Mapping[str, str]] = {
        "onnxruntime": "'cvbatch[onnx]'",
        "torch": "torch",
        "torchvision": "torchvision",
    }
    loader = "cvbatch.inference.onnx.loading"

    def understands_model(self, model: str) -> bool:
        """Whether it is `onnx`, with a file in `checkpoint`, or `onnx:FILE`."""
        return model == NAME or model.startswith(f"{NAME}:")

    def resolve_model(
        self, config: ModelConfig, *, fetch: bool, folder: str | None, report: Report | None = None
    ) -> ModelSpec:
        """See `Backend.resolve_model`; the graph is opened here, so that nothing starts with one that does not fit."""
        from cvbatch.models.onnx.files import fetch_graph_file  # other models need no package of ONNX
        from cvbatch.models.onnx.resolving import resolve_graph

        _check_options(config)
        file = fetch_graph_file(config)
        graph = resolve_graph(file, config)
        task, batch = graph.task, graph.reading.batch
        check_task_options(config, task.name)
        top_k = fitting_top_k(config, task, graph.categories, file.name)
        if batch is not None and report is not None:
            report(
                f"{file.name} takes {batch} image{'s' if batch > 1 else ''} at once, so it is called again and again"
            )
        alias = config.alias or task.name
        return ModelSpec(
            alias=alias,
            task=task.name,
            kind=self.name,
            name=file.name,
            view=graph.view,
            weights_path=file.spec_path,
            weights_storage=config.storage_options if is_object_uri(file.spec_path) else None,
            weights_sha256=file.sha256,
            categories=graph.categories,
            label_map=graph.label_map or (f"categories of {alias}" if task.has_labels else ""),
            licence=graph.licence,
            gflops=graph.gflops,
            masks=graph.masks,
            dimension=graph.dimension,
            top_k=top_k,
            score_threshold=config.score_threshold,
            normalize=config.normalize,
            dtype=config.dtype,
            options=graph.reading.to_options(),
        )

    def applicable_settings(self, spec: ModelSpec) -> frozenset[str]:
        """None: the file says with which numbers it is computed."""
        return frozenset()

    def files_beside(self, checkpoint: Path) -> Iterable[Path]:
        """The YAML file, and the weights as torch's exporter names them."""
        return checkpoint.with_suffix(".yaml"), checkpoint.with_name(f"{checkpoint.name}.data")

    def display_name(self, spec: ModelSpec) -> str:
        """The name in the job."""
        return f"{NAME}:{spec.name}"


ONNX: Final = OnnxBackend()


def _check_options(config: ModelConfig) -> None:
    if not config.checkpoint:
        raise ModelError(f"{config.model}: expected a file, as onnx:FILE, or as checkpoint: FILE beside model: onnx")
    if config.model != NAME:
        raise ModelError(f"{config.model} and checkpoint: {config.checkpoint} contradict each other: give one of them")
    check_brings_weights(config, "ONNX")
