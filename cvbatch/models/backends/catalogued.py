"""Base of the kinds whose models are listed in a catalog; own weights are possible, too."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cvbatch.config.job import DEFAULT_WEIGHTS, ModelConfig
from cvbatch.errors import ModelError
from cvbatch.models import catalog, weights
from cvbatch.models.backends.advice import similar_names_hint
from cvbatch.models.backends.base import Backend, ModelRow, check_task_options
from cvbatch.models.catalog import CatalogEntry, WeightsEntry
from cvbatch.models.categories import own_categories
from cvbatch.models.download import Report
from cvbatch.models.own_weights import find_own_checkpoint
from cvbatch.models.spec import ModelSpec
from cvbatch.storage.location import is_object_uri
from cvbatch.tasks import TASKS

_MB = 1_000_000


class CataloguedBackend(Backend):
    """Common part of the kinds with a catalog."""

    @abstractmethod
    def catalog_entries(self) -> Mapping[str, CatalogEntry]:
        """The catalog, by name."""

    @abstractmethod
    def find_weights_file(self, row: WeightsEntry) -> Path | None:
        """The file of catalogued weights, or None if it is not on this machine."""

    @abstractmethod
    def published_file(
        self, entry: CatalogEntry, row: WeightsEntry, *, fetch: bool, report: Report | None
    ) -> tuple[Path, bool]:
        """The file of catalogued weights, and whether it exists; see `resolve_model`."""

    def random_weights(self, entry: CatalogEntry) -> None:
        """Refuse `weights: null` where random weights are not possible.

        Raises:
            ModelError: Random weights are not possible.
        """

    def understands_model(self, model: str) -> bool:
        """Whether the catalog has this name, which may be followed by the name of weights."""
        return model.partition(":")[0] in self.catalog_entries()

    def model_names(self) -> Iterable[str]:
        """All names of the catalog."""
        return self.catalog_entries()

    def list_rows(self) -> Iterable[ModelRow]:
        """One row for each model and its weights."""
        for entry in self.catalog_entries().values():
            for row in entry.weights.values():
                yield ModelRow(
                    model=entry.name,
                    tasks=entry.tasks,
                    weights=row.name,
                    default=row.name == entry.default,
                    categories=row.categories,
                    licence=row.licence,
                    megabytes=row.megabytes,
                    here=self.find_weights_file(row) is not None,
                    note=entry.note,
                )

    def needs_probe(self, spec: ModelSpec) -> bool:
        """True for own weights: only their head shows whether there is an output for the background."""
        return spec.weights is None and spec.weights_path is not None

    def known_before_probe(self, spec: ModelSpec, data: Mapping[str, Any]) -> dict[str, Any]:
        """For own weights, all but the background and the number of categories that depends on it."""
        if not self.needs_probe(spec):
            return dict(data)
        categories = data["categories"]
        known = {key: value for key, value in data.items() if key != "top_k"}
        return {**known, "categories": categories[1:] if list(categories[:1]) == [None] else categories}

    def expected_weight_bytes(self, spec: ModelSpec) -> int:
        """The size that the catalog lists."""
        entry = self.catalog_entries().get(spec.name)
        if entry is None:
            return 0
        return int(entry.weights[spec.weights or entry.default].megabytes * _MB)

    def resolve_model(
        self, config: ModelConfig, *, fetch: bool, folder: str | None, report: Report | None = None
    ) -> ModelSpec:
        """See `Backend.resolve_model`."""
        name, _, suffix = config.model.partition(":")
        entry = self.catalog_entries()[name]
        task = _task_of(config, entry)
        check_task_options(config, task)
        _check_options(config)
        chosen = self._choose_weights(config, entry, suffix)
        row = chosen or entry.weights[entry.default]
        own = config.categories is not None or config.checkpoint is not None
        path, sha256 = self._weights_file(config, entry, chosen, fetch=fetch, report=report)
        categories = own_categories(config, task) if own else catalog.category_set(row.categories)
        named = sum(name is not None for name in categories)
        if config.top_k > named and "top_k" in config.model_fields_set:
            raise ModelError(f"{config.model}: expected top_k of at most its {named} categories, got {config.top_k}")
        facts = TASKS[task].facts
        return ModelSpec(
            alias=config.alias or task,
            task=task,
            kind=self.name,
            name=name,
            view=entry.view_for_task(row.name, task),
            weights=None if config.checkpoint or chosen is None else chosen.name,
            weights_path=path,
            weights_storage=config.storage_options if path is not None and is_object_uri(path) else None,
            weights_sha256=sha256,
            seed=config.seed,
            categories=categories,
            label_map=f"categories of {config.alias or task}" if own else row.categories,
            licence="" if config.checkpoint or chosen is None else row.licence,
            gflops=entry.gflops_for_task(row.name, task),
            masks=entry.masks and "masks" in facts,
            keypoints=entry.keypoints and "keypoints" in facts,
            dimension=entry.dimension if "dimension" in facts else None,
            top_k=min(config.top_k, named),
            score_threshold=config.score_threshold,
            normalize=config.normalize,
            dtype=config.dtype,
        )

    def _choose_weights(self, config: ModelConfig, entry: CatalogEntry, suffix: str) -> WeightsEntry | None:
        """The catalogued weights that a job chooses; None for random and own weights."""
        name = config.weights
        if suffix:
            if "weights" in config.model_fields_set and name != suffix:
                raise ModelError(f"{config.model} and weights: {name} contradict each other: give one of them")
            if config.checkpoint:
                raise ModelError(f"{config.model} and checkpoint: contradict each other: give one of them")
            name = suffix
        if config.checkpoint:
            return None
        if name is None:
            self.random_weights(entry)
            return None
        row = entry.weights.get(entry.default if name == DEFAULT_WEIGHTS else name)
        if row is None:
            raise ModelError(f"{entry.name} has no weights {name!r}{similar_names_hint(name, entry.weights)}")
        return row

    def _weights_file(
        self,
        config: ModelConfig,
        entry: CatalogEntry,
        chosen: WeightsEntry | None,
        *,
        fetch: bool,
        report: Report | None,
    ) -> tuple[str | None, str | None]:
        """Path or URI of the weights, and their sha256; both None for random weights."""
        if config.checkpoint:
            return find_own_checkpoint(config.checkpoint, config.storage_options, config.sha256)
        if chosen is None:
            if config.sha256:
                raise ModelError(f"sha256: {config.model} has random weights and no file: leave it out")
            return None, None
        path, exists = self.published_file(entry, chosen, fetch=fetch, report=report)
        if not exists:
            return str(path), None
        return str(path.resolve()), weights.check_file_hash(path, config.sha256 or chosen.sha256_prefix)


def _task_of(config: ModelConfig, entry: CatalogEntry) -> str:
    task = config.task or entry.tasks[0]
    if task not in entry.tasks:
        raise ModelError(f"{config.model} does {' and '.join(entry.tasks)}, not {task}: choose another task or model")
    return task


def _check_options(config: ModelConfig) -> None:
    if config.options:
        raise ModelError(f"options: belong to python: models, not to {config.model}: leave them out")
    if config.categories is not None and config.checkpoint is None:
        raise ModelError(f"categories: belong to a checkpoint:, but {config.model} has none: leave them out")
    if config.background and config.checkpoint is None:
        raise ModelError(f"background: belongs to a checkpoint:, but {config.model} has none: leave it out")
    if "seed" in config.model_fields_set and config.weights is not None:
        raise ModelError(f"seed: belongs to `weights: null`, but {config.model} has weights: leave it out")
