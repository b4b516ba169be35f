"""Import a `python:` factory, call it, and read the model's attributes."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from cvbatch.errors import ChangedModelError, ModelError, try_call
from cvbatch.images.preprocess import View
from cvbatch.inference.python.protocol import Model
from cvbatch.models import own_files, own_modules
from cvbatch.models.categories import MOST_IDS
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS
from cvbatch.tasks.output_checks import shorten_repr

T = TypeVar("T")
_ATTRIBUTES: Final = ("task", "view", "categories", "predict")


def load_python_model(spec: ModelSpec) -> Model:
    """Import the factory of a spec and call it.

    Raises:
        ModelError: The import or the call fails, or the result does not follow the protocol.
        ChangedModelError: Its source, or a file in its options, has changed since this attempt started.
    """
    module_name, _, factory_name = spec.name.partition(":")
    job_folder = _local_model_folder(spec)
    _check_unchanged(spec, module_name, job_folder)
    module = _call_users_code(spec, f"importing {module_name}", lambda: importlib.import_module(module_name))
    try:
        factory = getattr(module, factory_name)
    except AttributeError:
        similar = difflib.get_close_matches(factory_name, vars(module), n=1)
        hint = f": did you mean {similar[0]}?" if similar else ""
        origin = getattr(module, "__file__", None) or module_name
        raise ModelError(f"python:{spec.name}: {origin} has no {factory_name!r}{hint}") from None
    if not callable(factory):
        raise ModelError(f"python:{spec.name}: expected a class or function, but {factory_name} is not callable")
    options = own_files.with_absolute_paths(spec.options, job_folder)
    model = _call_users_code(spec, f"{factory_name}({_describe_options(options)})", lambda: factory(**options))
    missing = _call_users_code(spec, factory_name, lambda: [name for name in _ATTRIBUTES if not hasattr(model, name)])
    if missing or isinstance(model, type):
        problem = f"but it has no {' and no '.join(missing)}" if missing else "got a class: return an instance of it"
        raise ModelError(
            f"python:{spec.name}: expected {factory_name} to return an object with task, view, categories and "
            f"predict(), {problem} ({shorten_repr(model)})"
        )
    if not callable(model.predict):
        raise ModelError(f"python:{spec.name}: expected predict to be a method, got {shorten_repr(model.predict)}")
    checked: Model = model
    return checked


def complete_spec(spec: ModelSpec, model: Model) -> ModelSpec:
    """Complete a spec from the attributes of its model.

    Raises:
        ModelError: An attribute contradicts the job or the protocol.
    """
    name = f"python:{spec.name}"
    if not isinstance(model.task, str) or model.task not in TASKS:
        similar = difflib.get_close_matches(str(model.task), TASKS, n=1)
        hint = f": did you mean {similar[0]}?" if similar else ""
        raise ModelError(f"{name}: expected a task out of {', '.join(TASKS)}, got {model.task!r}{hint}")
    task = TASKS[model.task]
    if spec.alias and spec.task != model.task and spec.alias == spec.task:
        raise ModelError(f"{name} does {model.task}, not {spec.task}: correct task:")
    if not isinstance(model.view, View):
        raise ModelError(f"{name}: expected view to be a cvbatch.View, got {model.view!r}")
    masks, keypoints = bool(getattr(model, "masks", False)), bool(getattr(model, "keypoints", False))
    if model.view.crop is not None and (masks or task.covers_image):
        raise ModelError(f"{name}: masks cover the whole image: choose a view without crop")
    categories = _call_users_code(spec, "categories", lambda: _category_names(name, model.categories))
    if task.has_labels and not any(categories):
        raise ModelError(f"{name}: expected categories with at least one name, got {shorten_repr(categories)}")
    dimension: Any = getattr(model, "dimension", None)
    if "dimension" in task.facts:
        if not hasattr(dimension, "__index__") or isinstance(dimension, bool) or int(dimension) < 1:
            raise ModelError(f"{name}: expected an attribute dimension (the length of its vectors), got {dimension!r}")
        dimension = int(dimension)
    named = sum(category is not None for category in categories)
    return replace(
        spec,
        alias=spec.alias or model.task,
        task=model.task,
        view=model.view,
        categories=categories,
        label_map=str(getattr(model, "label_map", f"categories of {name}")),
        licence=str(getattr(model, "licence", "")),
        masks=masks and "masks" in task.facts,
        keypoints=keypoints and "keypoints" in task.facts,
        dimension=dimension if "dimension" in task.facts else None,
        top_k=min(spec.top_k, max(named, 1)),
    )


def _local_model_folder(spec: ModelSpec) -> str | None:
    """Make the job file's folder on this machine importable, last so that it hides no other module, and return it."""
    if spec.folder is None:
        return None
    # Ray may copy the submitted folder elsewhere on each machine, and makes it the current folder
    candidates = (spec.folder, os.path.abspath(os.path.basename(spec.folder)), os.getcwd())
    folder = next(path for path in candidates if os.path.isdir(path))
    if folder not in sys.path:
        sys.path.append(folder)
    return folder


def _check_unchanged(spec: ModelSpec, module: str, job_folder: str | None) -> None:
    if not spec.files:
        return
    current = own_files.hash_model_files(
        module, own_modules.folder_of_module(module, job_folder), spec.options, job_folder
    )
    if (name := own_files.first_changed_file(spec.files, current)) is not None:
        raise ChangedModelError(
            f"python:{spec.name}: {name} in {job_folder or 'its folder'} has changed since this run started: put it "
            "back and repeat the command, or choose another output"
        )


def _category_names(name: str, categories: Any) -> tuple[str | None, ...]:
    """Read categories from a sequence, an array, a generator, or a mapping from label ids."""
    if isinstance(categories, Mapping):
        ids = {key: _whole_label_id(name, key) for key in categories}
        if any(label_id < 0 or label_id > MOST_IDS for label_id in ids.values()):
            raise ModelError(
                f"{name}: expected categories with label ids from 0 on, got {shorten_repr(sorted(ids.values()))}"
            )
        by_id = {label_id: categories[key] for key, label_id in ids.items()}
        if len(by_id) < len(ids):
            raise ModelError(
                f"{name}: expected one name for each label id, got two for one in {shorten_repr(dict(categories))}"
            )
        categories = [by_id.get(label_id) for label_id in range(max(by_id, default=-1) + 1)]
    elif isinstance(categories, str | bytes) or not isinstance(categories, Iterable):
        raise ModelError(f"{name}: expected categories as a list of names, got {shorten_repr(categories)}")
    names = [str(category) if isinstance(category, str) else category for category in categories]
    wrong = next((category for category in names if not isinstance(category, str | None)), None)
    if wrong is not None:
        raise ModelError(f"{name}: expected categories as names or None, got {shorten_repr(wrong)}")
    return tuple(names)


def _whole_label_id(name: str, key: Any) -> int:
    if hasattr(key, "__index__") or (isinstance(key, str) and key.isdecimal()):
        return int(key)
    raise ModelError(f"{name}: expected categories as {{label id: name}}, got the key {shorten_repr(key)}")


def _call_users_code(spec: ModelSpec, action: str, work: Callable[[], T]) -> T:
    """Call the user's code; its errors become one line with the first cause and its location."""
    try:
        result = try_call(work)
    except SystemExit as error:
        reason = f"called sys.exit({'' if error.code is None else error.code!r}), as argparse does, too"
        raise ModelError(f"python:{spec.name}: {action}: {_error_location(spec, error)}{reason}") from None
    if isinstance(result, ModelError):
        raise result
    if isinstance(result, Exception):
        raise ModelError(_model_failure(spec, action, result)) from None
    return result


def _model_failure(spec: ModelSpec, action: str, error: Exception) -> str:
    module_name = spec.name.partition(":")[0]
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
        return f"python:{spec.name}: {error}: only the job file's folder and installed packages are searched"
    first = error
    while isinstance(first.__cause__, Exception):
        first = first.__cause__
    text = " ".join(str(first).split())[:300]
    cause = f"{type(first).__name__}{f': {text}' if text else ''}"
    return f"python:{spec.name}: {action}: {_error_location(spec, first)}{cause}"


def _error_location(spec: ModelSpec, error: BaseException) -> str:
    """File and line of the first cause: the last frame in the model's own code, or else where it was raised."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: "
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    frames = [frame for frame in frames if Path(frame.filename) not in _OURS]
    user_frames = [
        frame for frame in frames if "site-packages" not in frame.filename and "/lib/python" not in frame.filename
    ]
    last = (user_frames or frames)[-1:]
    return f"{last[0].filename}, line {last[0].lineno}: " if last else ""


_OURS: Final = frozenset({Path(__file__), Path(str(try_call.__code__.co_filename)), Path(importlib.__file__)})


def _describe_options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in options.items())[:100]
