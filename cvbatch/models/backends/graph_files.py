"""What all kinds of models share whose file is a graph of some framework."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.models.backends.base import Backend, check_brings_weights, check_task_options, fitting_top_k
from cvbatch.models.download import Report
from cvbatch.models.spec import ModelSpec
from cvbatch.storage.location import is_object_uri

if TYPE_CHECKING:
    from cvbatch.models.graphs.resolving import ResolvedGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedFile:
    """A file that is completely described."""

    name: str
    """For messages, without its folder."""
    spec_path: str
    """What the spec stores: the path, or the URI of an object."""
    sha256: str
    graph: ResolvedGraph
    gflops: float | None


class GraphFileBackend(Backend):
    """Files that `PREFIX:FILE` names, or `model: PREFIX` with `checkpoint: FILE`; the prefix names the kind."""

    framework: ClassVar[str]
    """In messages."""

    @abstractmethod
    def resolve_file(self, config: ModelConfig) -> ResolvedFile:
        """Open the file, so that nothing starts with one that does not fit.

        Raises:
            ModelError: The first problem, in one line.
            UsageError: A package is missing.
        """

    def understands_model(self, model: str) -> bool:
        """Whether it is the prefix alone, with a file in `checkpoint`, or with a file."""
        return model == self.name or model.startswith(f"{self.name}:")

    def resolve_model(
        self, config: ModelConfig, *, fetch: bool, folder: str | None, report: Report | None = None
    ) -> ModelSpec:
        """See `Backend.resolve_model`."""
        self._check_options(config)
        file = self.resolve_file(config)
        graph = file.graph
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
            gflops=file.gflops,
            masks=graph.masks,
            keypoints=graph.keypoints,
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
        """The YAML file."""
        return (checkpoint.with_suffix(".yaml"),)

    def display_name(self, spec: ModelSpec) -> str:
        """The name in the job."""
        return f"{self.name}:{spec.name}"

    def _check_options(self, config: ModelConfig) -> None:
        if not config.checkpoint:
            raise ModelError(
                f"{config.model}: expected a file, as {self.name}:FILE, or as checkpoint: FILE beside "
                f"model: {self.name}"
            )
        if config.model != self.name:
            raise ModelError(
                f"{config.model} and checkpoint: {config.checkpoint} contradict each other: give one of them"
            )
        check_brings_weights(config, self.framework)
