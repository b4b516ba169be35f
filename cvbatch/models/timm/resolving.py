"""From a source of timm and a job's entry to everything that workers need to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.images.preprocess import View
from cvbatch.models.catalog import category_set, category_set_names
from cvbatch.models.categories import own_categories
from cvbatch.models.timm.preparation import plan_preparation
from cvbatch.models.timm.reading import TimmReading
from cvbatch.models.timm.registry import timm_registry
from cvbatch.models.timm.sources import TimmSource
from cvbatch.tasks import CLASSIFICATION, EMBEDDING, TASKS
from cvbatch.tasks.base import Task

Categories = tuple[str | None, ...]
_DEFAULT_CLASSES: Final = 1000
"""Of timm."""
_NOT_STORED: Final = (
    "url",
    "file",
    "hf_hub_id",
    "hf_hub_filename",
    "source",
    "state_dict",
    "custom_load",
    "label_names",
    "label_descriptions",
    "license",
    "description",
    "notes",
    "origin_url",
    "paper_name",
    "paper_ids",
)
"""Settings that no answer depends on, or that would lead to other weights."""


@dataclass(frozen=True, slots=True)
class ResolvedTimm:
    """A model, completely described but for its weights."""

    task: Task
    view: View
    reading: TimmReading
    categories: Categories
    label_map: str
    """Name of a known set of categories, or empty."""
    licence: str


def resolve_source(source: TimmSource, config: ModelConfig) -> ResolvedTimm:
    """Read what is known of a model.

    Args:
        source: The model.
        config: The job's entry.

    Raises:
        ModelError: The model does something else, or a part of its description is missing or not supported.
    """
    classes = source.settings.get("num_classes", _DEFAULT_CLASSES)
    if not isinstance(classes, int) or classes < 0:
        raise ModelError(f"{source.title}: expected num_classes: of at least 0, got {classes!r}")
    has_own_weights = source.folder is None and config.weights is not None
    may_classify = classes > 0 or has_own_weights
    name = config.task or (CLASSIFICATION.name if may_classify else EMBEDDING.name)
    tasks = (CLASSIFICATION.name, EMBEDDING.name) if may_classify else (EMBEDDING.name,)
    if name not in tasks:
        raise ModelError(f"{source.title} does {' and '.join(tasks)}, not {name}: choose another task or model")
    task = TASKS[name]
    categories: Categories = ()
    label_map = ""
    if has_own_weights:
        named = own_categories(config, CLASSIFICATION.name)
        classes = len(named)
        categories = named if task.has_labels else ()
    elif task.has_labels:
        categories, label_map = _find_categories(source, classes, config)
    preparation = plan_preparation(source.settings, source.title)
    reading = TimmReading(
        architecture=source.architecture,
        arguments=dict(source.arguments),
        settings={key: value for key, value in source.settings.items() if key not in _NOT_STORED},
        classes=classes,
        own_weights=has_own_weights,
        revision=None if source.folder is None else source.folder.revision,
        mean=preparation.mean,
        std=preparation.std,
    )
    licence = "" if has_own_weights or config.weights is None else _licence(source)
    return ResolvedTimm(task, preparation.view, reading, categories, label_map, licence)


def _find_categories(source: TimmSource, classes: int, config: ModelConfig) -> tuple[Categories, str]:
    """The names that the job gives, or else the model, or else those of the set that timm supposes by their number."""
    if config.categories is not None:
        own = own_categories(config, CLASSIFICATION.name)
        if len(own) != classes:
            raise ModelError(
                f"{source.title} has {classes} classes, and there are {len(own)} categories: give one name each"
            )
        return own, ""
    registry = timm_registry()
    names = _own_names(source.settings)
    if names:
        if len(names) != classes:
            raise ModelError(f"{source.title}: expected label_names: for {classes} classes, got {len(names)}")
        return tuple(names), ""
    known = registry.sets_by_count.get(classes)
    if known is None:
        raise ModelError(
            f"{source.title} does not name its {classes} classes: give categories: as a list or a file with one name a "
            f"line, or task: {EMBEDDING.name} for its features"
        )
    if known in category_set_names():  # the same classes under the names that other models have
        return category_set(known), known
    return tuple(registry.category_sets[known]), known


def _own_names(settings: Mapping[str, Any]) -> Sequence[str]:
    """What a model calls its classes: the descriptions of its labels, if it has any."""
    names = settings.get("label_names")
    if not isinstance(names, list | tuple):
        return ()
    described = settings.get("label_descriptions")
    if isinstance(described, Mapping):
        return [str(described.get(name, name)) for name in names]
    return [str(name) for name in names]


def _licence(source: TimmSource) -> str:
    said = source.settings.get("license")
    if isinstance(said, str):
        return said
    return "" if source.folder is None else source.folder.licence()
