"""Kinds of models whose names, weights and categories stand in a catalog, and which take own weights, too."""

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
from cvbatch.models.spec import ModelSpec
from cvbatch.storage.location import Location, is_object_uri, redact_secrets
from cvbatch.tasks import TASKS

_MB = 1_000_000


class CataloguedBackend(Backend):
    """What kinds with a catalog have in common."""

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
        """The file of catalogued weights, and whether it is there; see `resolve`."""

    def random_weights(self, entry: CatalogEntry) -> None:
        """Allow `weights: null`, or refuse it.

        Raises:
            ModelError: There is no such thing.
        """

    def understands_model(self, model: str) -> bool:
        """By its name, which may be followed by that of its weights."""
        return model.partition(":")[0] in self.catalog_entries()

    def model_names(self) -> Iterable[str]:
        """Those of the catalog."""
        return self.catalog_entries()

    def list_rows(self) -> Iterable[ModelRow]:
        """One for each model and its weights."""
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
        """Own weights do: their head tells whether it has an output for the background."""
        return spec.weights is None and spec.weights_path is not None

    def known_before_probe(self, spec: ModelSpec, data: Mapping[str, Any]) -> dict[str, Any]:
        """Of own weights not whether they have a background, nor how many categories that leaves."""
        if not self.needs_probe(spec):
            return dict(data)
        categories = data["categories"]
        known = {key: value for key, value in data.items() if key != "top_k"}
        return {**known, "categories": categories[1:] if list(categories[:1]) == [None] else categories}

    def expected_weight_bytes(self, spec: ModelSpec) -> int:
        """What the catalog says."""
        entry = self.catalog_entries().get(spec.name)
        if entry is None:
            return 0
        return int(entry.weights[spec.weights or entry.default].megabytes * _MB)

    def resolve_model(
        self, asked: ModelConfig, *, fetch: bool, folder: str | None, report: Report | None = None
    ) -> ModelSpec:
        """See `Backend.resolve_model`."""
        name, _, suffix = asked.model.partition(":")
        entry = self.catalog_entries()[name]
        task = _task_of(asked, entry)
        check_task_options(asked, task)
        _check_options(asked)
        chosen = self._choose_weights(asked, entry, suffix)
        row = chosen or entry.weights[entry.default]
        own = asked.categories is not None or asked.checkpoint is not None
        path, sha256 = self._weights_file(asked, entry, chosen, fetch=fetch, report=report)
        categories = own_categories(asked, task) if own else catalog.category_set(row.categories)
        named = sum(name is not None for name in categories)
        if asked.top_k > named and "top_k" in asked.model_fields_set:
            raise ModelError(f"{asked.model}: expected top_k of at most its {named} categories, got {asked.top_k}")
        facts = TASKS[task].facts
        return ModelSpec(
            alias=asked.alias or task,
            task=task,
            kind=self.name,
            name=name,
            view=entry.view_for_task(row.name, task),
            weights=None if asked.checkpoint or chosen is None else chosen.name,
            weights_path=path,
            weights_storage=asked.storage_options if path is not None and is_object_uri(path) else None,
            weights_sha256=sha256,
            seed=asked.seed,
            categories=categories,
            label_map=f"categories of {asked.alias or task}" if own else row.categories,
            licence="" if asked.checkpoint or chosen is None else row.licence,
            gflops=entry.gflops_for_task(row.name, task),
            masks=entry.masks and "masks" in facts,
            keypoints=entry.keypoints and "keypoints" in facts,
            dimension=entry.dimension if "dimension" in facts else None,
            top_k=min(asked.top_k, named),
            score_threshold=asked.score_threshold,
            normalize=asked.normalize,
            dtype=asked.dtype,
        )

    def _choose_weights(self, asked: ModelConfig, entry: CatalogEntry, suffix: str) -> WeightsEntry | None:
        """The chosen weights; None for random and own ones."""
        name = asked.weights
        if suffix:
            if "weights" in asked.model_fields_set and name != suffix:
                raise ModelError(f"{asked.model} and weights: {name} contradict each other: give one of them")
            if asked.checkpoint:
                raise ModelError(f"{asked.model} and checkpoint: contradict each other: give one of them")
            name = suffix
        if asked.checkpoint:
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
        asked: ModelConfig,
        entry: CatalogEntry,
        chosen: WeightsEntry | None,
        *,
        fetch: bool,
        report: Report | None,
    ) -> tuple[str | None, str | None]:
        """Path or URI, and sha256, of the weights; both None for random ones."""
        if asked.checkpoint and is_object_uri(asked.checkpoint):
            place = Location.from_uri(asked.checkpoint, asked.storage_options)
            return place.uri, weights.check_hash_prefix(
                weights.fetch_own_checkpoint(place), asked.sha256 or "", f"checkpoint: {place}"
            )
        if asked.checkpoint:
            path, is_there = _own_file(asked.checkpoint), True
        elif chosen is None:
            if asked.sha256:
                raise ModelError(f"sha256: {asked.model} has random weights and no file: leave it out")
            return None, None
        else:
            path, is_there = self.published_file(entry, chosen, fetch=fetch, report=report)
        if not is_there:
            return str(path), None
        return str(path.resolve()), weights.check_file_hash(
            path, asked.sha256 or (chosen.sha256_prefix if chosen else "")
        )


def _task_of(asked: ModelConfig, entry: CatalogEntry) -> str:
    task = asked.task or entry.tasks[0]
    if task not in entry.tasks:
        raise ModelError(f"{asked.model} does {' and '.join(entry.tasks)}, not {task}: choose another task or model")
    return task


def _check_options(asked: ModelConfig) -> None:
    if asked.options:
        raise ModelError(f"options: belong to python: models, not to {asked.model}: leave them out")
    if asked.categories is not None and asked.checkpoint is None:
        raise ModelError(f"categories: belong to a checkpoint:, but {asked.model} has none: leave them out")
    if asked.background and asked.checkpoint is None:
        raise ModelError(f"background: belongs to a checkpoint:, but {asked.model} has none: leave it out")
    if "seed" in asked.model_fields_set and asked.weights is not None:
        raise ModelError(f"seed: belongs to `weights: null`, but {asked.model} has weights: leave it out")


def _own_file(checkpoint: str) -> Path:
    path = Path(checkpoint).expanduser()
    if "://" in checkpoint:
        given = redact_secrets(checkpoint)
        raise ModelError(f"checkpoint: expected a file on this machine or in a bucket, got {given}: copy it there")
    if not path.is_file():
        raise ModelError(f"checkpoint: there is no file {checkpoint}")
    return path
