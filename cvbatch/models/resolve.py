"""From the models of a job file to specs that every process understands; imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.models.backends import BACKENDS, backend_for, backend_of
from cvbatch.models.backends.advice import similar_names_hint
from cvbatch.models.backends.base import ModelRow
from cvbatch.models.download import Report
from cvbatch.models.spec import ModelSpec
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
        fetch: Download weights that are not here; otherwise they only get their path.
        folder: Of the job file, for `python:` models.
        report: Told how far a download is; without, there is a bar if standard error is a terminal.

    Returns:
        One spec per model, in order. Those of which `needs_probe` is true are completed by `predictor.probe`.

    Raises:
        ModelError: With the first thing that is wrong, in one line.
    """
    specs = tuple(
        backend_for(model.model).resolve_model(model, fetch=fetch, folder=folder, report=report) for model in models
    )
    check_aliases(specs)
    return specs


def needs_probe(spec: ModelSpec) -> bool:
    """Whether only loading the model can tell the rest: `python:` factories and own weights."""
    return backend_of(spec).needs_probe(spec)


def check_aliases(specs: Iterable[ModelSpec]) -> None:
    """Check that each column of the predictions has one origin.

    Raises:
        ModelError: Two models have the same alias, or their columns the same name.
    """
    specs = [spec for spec in specs if spec.alias]
    for alias, count in Counter(spec.alias for spec in specs).items():
        if count > 1:
            raise ModelError(f"{count} models have the alias {alias!r}: give each its own with `as:`")
    names = Counter(field.name for spec in specs for field in spec.column_fields())
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise ModelError(f"two models give a column {twice!r}: choose other aliases with `as:`")


def list_models(task: str | None = None) -> list[ModelRow]:
    """What can be run, one row for each model and its weights.

    Args:
        task: Only models that can do it.

    Raises:
        ModelError: There is no such task.
    """
    if task is not None and task not in TASKS:
        raise ModelError(f"expected a task out of {', '.join(TASKS)}, got {task!r}{similar_names_hint(task, TASKS)}")
    return [row for backend in BACKENDS.values() for row in backend.list_rows() if task is None or task in row.tasks]
