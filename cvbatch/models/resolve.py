"""Resolve the models of a job file into specs that every process understands; imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.models.backends import BACKENDS, backend_for, backend_of
from cvbatch.models.backends.advice import similar_names_hint
from cvbatch.models.backends.base import ModelRow, check_prompts
from cvbatch.models.download import Report
from cvbatch.models.spec import ModelSpec
from cvbatch.models.tiles import check_tiles, with_tiles
from cvbatch.tasks import TASKS


def resolve_models(
    models: Sequence[ModelConfig],
    *,
    fetch: bool = True,
    folder: str | None = None,
    report: Report | None = None,
) -> tuple[ModelSpec, ...]:
    """Check the models of a job and find their weights and files.

    Args:
        models: As in the job file.
        fetch: Download missing weights; if false, only their path is determined.
        folder: The job file's folder, for `python:` models.
        report: Called with the progress of a download; if None, a bar is shown where standard error is a terminal.

    Returns:
        One spec per model, in order. Where `needs_probe` is true, `probe_model` completes it.

    Raises:
        ModelError: The first problem, in one line.
    """
    specs = tuple(_resolve_model(model, fetch=fetch, folder=folder, report=report) for model in models)
    check_aliases(specs)
    return specs


def _resolve_model(model: ModelConfig, *, fetch: bool, folder: str | None, report: Report | None) -> ModelSpec:
    backend = backend_for(model.model)
    check_prompts(backend, model)
    spec = with_tiles(backend.resolve_model(model, fetch=fetch, folder=folder, report=report), model.tiles)
    if not backend.has_sources:  # such a model says later what it does
        check_tiles(spec)
    return spec


def needs_probe(spec: ModelSpec) -> bool:
    """Whether the spec is complete only after loading the model: `python:` factories and own weights."""
    return backend_of(spec).needs_probe(spec)


def check_aliases(specs: Iterable[ModelSpec]) -> None:
    """Check that each column of the predictions comes from one model.

    Raises:
        ModelError: Two models have the same alias, or their columns the same name.
    """
    specs = [spec for spec in specs if spec.alias]
    for alias, count in Counter(spec.alias for spec in specs).items():
        if count > 1:
            raise ModelError(f"{count} models have the alias {alias!r}: give each its own with `as:`")
    names = Counter(field.name for spec in specs for field in spec.column_fields())
    duplicate = next((name for name, count in names.items() if count > 1), None)
    if duplicate is not None:
        raise ModelError(f"two models give a column {duplicate!r}: choose other aliases with `as:`")


def list_models(task: str | None = None) -> list[ModelRow]:
    """List the models that can be run, one row for each model and its weights.

    Args:
        task: List only models that can do this task.

    Raises:
        ModelError: There is no such task.
    """
    if task is not None and task not in TASKS:
        raise ModelError(f"expected a task out of {', '.join(TASKS)}, got {task!r}{similar_names_hint(task, TASKS)}")
    return [row for backend in BACKENDS.values() for row in backend.list_rows() if task is None or task in row.tasks]
