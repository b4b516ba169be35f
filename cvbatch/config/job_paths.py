"""Paths in a job: those in a job file are relative to its folder, those in options to the current folder."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from typing import Any, Final

from cvbatch.config.model_files import split_model_file
from cvbatch.errors import JobError

_VARIABLE: Final = re.compile(r"\$(?:\$|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:", re.IGNORECASE)
_MODEL_FILE_KEYS: Final = ("checkpoint", "categories", "prompts")
_PATHS_OF_SECTIONS: Final = (
    ("source", ("uri",)),
    ("output", ("uri",)),
    ("truth", ("uri", "corrections")),
    ("split", ("file",)),
    ("model", _MODEL_FILE_KEYS),
)
"""Sections of a job with keys that are paths; some belong only to trainings."""
_MAGIC: Final = re.compile(r"[*?\[]")


class JobFilePath(str):
    """A path that comes from the job file."""

    __slots__ = ()


def mark_job_file_paths(data: dict[str, Any], folder: str | None = None) -> None:
    """Mark the paths of the job file, before options replace some of them.

    Args:
        data: Data of the job file.
        folder: Folder of the job file; None if the file is in a bucket.
    """
    _split_model_files(data, folder)
    for container, key, _ in _iter_path_values(data):
        container[key] = JobFilePath(container[key])


def resolve_job_paths(data: dict[str, Any], folder: str | None) -> None:
    """Resolve variables, `~` and relative paths in the data of a job, in place.

    Args:
        data: Data of the job file with options applied.
        folder: Folder of the job file; None if the file is in a bucket.

    Raises:
        JobError: If an environment variable is not set.
    """
    _split_model_files(data)
    for container, key, name in _iter_path_values(data):
        value = container[key]
        path = _resolve_path(str(value), folder if isinstance(value, JobFilePath) else None, name)
        # the plan stores absolute paths of model files, so that a retry works from another folder
        is_model_file = key in _MODEL_FILE_KEYS and path and not _SCHEME.match(path)
        container[key] = os.path.abspath(path) if is_model_file else path


def _split_model_files(data: dict[str, Any], folder: str | None = None) -> None:
    """Separate models from their files, so that these are paths as others are."""
    if isinstance(data.get("model"), dict):
        data["model"] = split_model_file(data["model"], folder)
    models = data.get("models")
    if isinstance(models, list):
        data["models"] = [split_model_file(model, folder) if isinstance(model, dict) else model for model in models]


def _resolve_path(path: str, folder: str | None, name: str) -> str:
    if "$" in path and not os.path.lexists(os.path.join(folder or os.curdir, path)):
        path = _expand_variables(path, name)
    if not path or _SCHEME.match(path):
        return path
    path = os.path.expanduser(path)
    if folder is None or os.path.isabs(path):
        return path
    start = glob.escape(folder) if _MAGIC.search(path) else folder
    return os.path.normpath(os.path.join(start, path)) + ("/" if path.endswith("/") else "")


def _expand_variables(path: str, name: str) -> str:
    def variable_value(match: re.Match[str]) -> str:
        variable = match[1] or match[2]
        if variable is None:
            return "$"
        if variable not in os.environ:
            raise JobError(f"{name}: {path}: the environment variable {variable} is not set; write $$ for a $")
        return os.environ[variable]

    return _VARIABLE.sub(variable_value, path)


def _iter_path_values(data: dict[str, Any]) -> Iterator[tuple[Any, Any, str]]:
    """The paths of a job: the list or mapping that contains each, its key in it, and its dotted name."""
    models = data.get("models")
    sections: list[tuple[Any, str, tuple[str, ...]]] = [
        (data.get(name), name, keys) for name, keys in _PATHS_OF_SECTIONS
    ]
    if isinstance(models, list):
        sections += [(model, f"models.{index}", _MODEL_FILE_KEYS) for index, model in enumerate(models)]
    for section, name, keys in sections:
        for key in keys if isinstance(section, dict) else ():
            value = section.get(key)
            if isinstance(value, str):
                yield section, key, f"{name}.{key}"
            elif isinstance(value, list) and (name, key) == ("source", "uri"):
                for index, uri in enumerate(value):
                    if isinstance(uri, str):
                        yield value, index, f"{name}.{key}.{index}"
