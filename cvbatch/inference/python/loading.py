"""From the name of a `python:` factory to a model, and what the model says of itself."""

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
_PARTS: Final = ("task", "view", "categories", "predict")


def load_python_model(spec: ModelSpec) -> Model:
    """Import the factory of a spec and call it.

    Raises:
        ModelError: It cannot be imported, it fails, or its result does not follow the protocol.
        ChangedModelError: Its source, or a file in its options, is not what this start began with.
    """
    module_name, _, factory_name = spec.name.partition(":")
    beside = _local_model_folder(spec)
    _check_unchanged(spec, module_name, beside)
    module = _call_users_code(spec, f"importing {module_name}", lambda: importlib.import_module(module_name))
    try:
        factory = getattr(module, factory_name)
    except AttributeError:
        near = difflib.get_close_matches(factory_name, vars(module), n=1)
        hint = f": did you mean {near[0]}?" if near else ""
        where = getattr(module, "__file__", None) or module_name
        raise ModelError(f"python:{spec.name}: {where} has no {factory_name!r}{hint}") from None
    if not callable(factory):
        raise ModelError(f"python:{spec.name}: expected a class or function, but {factory_name} is not callable")
    options = own_files.with_absolute_paths(spec.options, beside)
    model = _call_users_code(spec, f"{factory_name}({_describe_options(options)})", lambda: factory(**options))
    lacking = _call_users_code(spec, factory_name, lambda: [part for part in _PARTS if not hasattr(model, part)])
    if lacking or isinstance(model, type):
        what = f"but it has no {' and no '.join(lacking)}" if lacking else "got a class: return an instance of it"
        raise ModelError(
            f"python:{spec.name}: expected task, view, categories and predict() of what {factory_name} returns, "
            f"{what} ({shorten_repr(model)})"
        )
    if not callable(model.predict):
        raise ModelError(f"python:{spec.name}: expected predict to be a method, got {shorten_repr(model.predict)}")
    made: Model = model
    return made


def complete_spec(spec: ModelSpec, model: Model) -> ModelSpec:
    """Fill in what only the model knows.

    Raises:
        ModelError: What it says of itself contradicts the job or the protocol.
    """
    name = f"python:{spec.name}"
    if not isinstance(model.task, str) or model.task not in TASKS:
        near = difflib.get_close_matches(str(model.task), TASKS, n=1)
        hint = f": did you mean {near[0]}?" if near else ""
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
            raise ModelError(f"{name}: expected an attribute dimension, the length of its vectors, got {dimension!r}")
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
    """The job file's folder on this machine, made importable: last, so that it hides nothing that Python has."""
    if spec.folder is None:
        return None
    # Ray may put what was submitted elsewhere on each machine: it is the current folder there
    places = (spec.folder, os.path.abspath(os.path.basename(spec.folder)), os.getcwd())
    folder = next(place for place in places if os.path.isdir(place))
    if folder not in sys.path:
        sys.path.append(folder)
    return folder


def _check_unchanged(spec: ModelSpec, module: str, beside: str | None) -> None:
    if not spec.files:
        return
    now = own_files.hash_model_files(module, own_modules.folder_of_module(module, beside), spec.options, beside)
    if (name := own_files.first_changed_file(spec.files, now)) is not None:
        raise ChangedModelError(
            f"python:{spec.name}: {name} in {beside or 'its folder'} is not what this run began with: put it back, and "
            "the same command goes on, or choose another output"
        )


def _category_names(name: str, given: Any) -> tuple[str | None, ...]:
    """Categories as anybody may write them: a sequence, an array, a generator, or a mapping from label ids."""
    if isinstance(given, Mapping):
        ids = {key: _whole_label_id(name, key) for key in given}
        if any(at < 0 or at > MOST_IDS for at in ids.values()):
            raise ModelError(
                f"{name}: expected categories with label ids from 0 on, got {shorten_repr(sorted(ids.values()))}"
            )
        by_id = {at: given[key] for key, at in ids.items()}
        if len(by_id) < len(ids):
            raise ModelError(
                f"{name}: expected one name for each label id, got two for one in {shorten_repr(dict(given))}"
            )
        given = [by_id.get(at) for at in range(max(by_id, default=-1) + 1)]
    elif isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ModelError(f"{name}: expected categories as a list of names, got {shorten_repr(given)}")
    names = [None if each is None else str(each) if isinstance(each, str) else each for each in given]
    wrong = next((each for each in names if not isinstance(each, str | None)), None)
    if wrong is not None:
        raise ModelError(f"{name}: expected categories as names or None, got {shorten_repr(wrong)}")
    return tuple(names)


def _whole_label_id(name: str, key: Any) -> int:
    if hasattr(key, "__index__") or (isinstance(key, str) and key.isdecimal()):
        return int(key)
    raise ModelError(f"{name}: expected categories as {{label id: name}}, got the key {shorten_repr(key)}")


def _call_users_code(spec: ModelSpec, what: str, work: Callable[[], T]) -> T:
    """Do what is somebody else's work; what it raises becomes the first cause, with its place, in one line."""
    try:
        done = try_call(work)
    except SystemExit as error:
        why = f"called sys.exit({'' if error.code is None else error.code!r}), as argparse does on its own, too"
        raise ModelError(f"python:{spec.name}: {what}: {_error_location(spec, error)}{why}") from None
    if isinstance(done, ModelError):
        raise done
    if isinstance(done, Exception):
        raise ModelError(_model_failure(spec, what, done)) from None
    return done


def _model_failure(spec: ModelSpec, what: str, error: Exception) -> str:
    module_name = spec.name.partition(":")[0]
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
        return f"python:{spec.name}: {error}: the job file's folder and installed packages count"
    first = error
    while isinstance(first.__cause__, Exception):
        first = first.__cause__
    text = " ".join(str(first).split())[:300]
    return (
        f"python:{spec.name}: {what}: {_error_location(spec, first)}{type(first).__name__}{f': {text}' if text else ''}"
    )


def _error_location(spec: ModelSpec, error: BaseException) -> str:
    """File and line of the first cause: in the model's own folder if it passed there, else where it was raised."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: "
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    frames = [frame for frame in frames if Path(frame.filename) not in _OURS]
    own = [frame for frame in frames if "site-packages" not in frame.filename and "/lib/python" not in frame.filename]
    found = (own or frames)[-1:]
    return f"{found[0].filename}, line {found[0].lineno}: " if found else ""


_OURS: Final = frozenset({Path(__file__), Path(str(try_call.__code__.co_filename)), Path(importlib.__file__)})


def _describe_options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in options.items())[:100]
