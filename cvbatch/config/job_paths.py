"""Paths in a job: those of a job file begin at its folder, those of options at the current one."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from typing import Any, Final

from cvbatch.errors import JobError

_VARIABLE: Final = re.compile(r"\$(?:\$|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:", re.IGNORECASE)
_FILES: Final = ("checkpoint", "categories")
_MAGIC: Final = re.compile(r"[*?\[]")


class JobFilePath(str):
    """A path as it stands in a job file."""

    __slots__ = ()


def mark_job_file_paths(data: dict[str, Any]) -> None:
    """Remember which paths stand in the job file, before others are laid over them."""
    for container, key, _ in _iter_path_values(data):
        container[key] = JobFilePath(container[key])


def resolve_job_paths(data: dict[str, Any], folder: str | None) -> None:
    """Give every path of a job its meaning: variables, `~`, and the folder that it begins at.

    Args:
        data: Of a job, as it was read, with options laid over it.
        folder: Of the job file; None where that lies in a bucket.

    Raises:
        JobError: A variable is not set.
    """
    for container, key, name in _iter_path_values(data):
        given = container[key]
        found = _resolve_path(str(given), folder if isinstance(given, JobFilePath) else None, name)
        # of a model's files the plan keeps where they are, for a retry from another folder
        container[key] = os.path.abspath(found) if key in _FILES and found and not _SCHEME.match(found) else found


def _resolve_path(given: str, folder: str | None, name: str) -> str:
    start = folder or os.curdir
    if "$" in given and not os.path.lexists(os.path.join(start, given)):
        given = _expand_variables(given, name)
    if not given or _SCHEME.match(given):
        return given
    home = os.path.expanduser(given)
    if folder is None or os.path.isabs(home):
        return home
    start = glob.escape(folder) if _MAGIC.search(home) else folder
    return os.path.normpath(os.path.join(start, home)) + ("/" if home.endswith("/") else "")


def _expand_variables(given: str, name: str) -> str:
    def variable_value(found: re.Match[str]) -> str:
        variable = found[1] or found[2]
        if variable is None:
            return "$"
        if variable not in os.environ:
            raise JobError(f"{name}: {given}: there is no variable {variable} in the environment; $$ stands for a $")
        return os.environ[variable]

    return _VARIABLE.sub(variable_value, given)


def _iter_path_values(data: dict[str, Any]) -> Iterator[tuple[Any, Any, str]]:
    """Where the paths of a job stand: what holds them, under which key, and what that is called."""
    models = data.get("models")
    sections: list[tuple[Any, str, tuple[str, ...]]] = [
        (data.get("source"), "source", ("uri",)),
        (data.get("output"), "output", ("uri",)),
    ]
    if isinstance(models, list):
        sections += [(model, f"models.{at}", _FILES) for at, model in enumerate(models)]
    for section, name, keys in sections:
        for key in keys if isinstance(section, dict) else ():
            value = section.get(key)
            if isinstance(value, str):
                yield section, key, f"{name}.{key}"
            elif isinstance(value, list) and (name, key) == ("source", "uri"):
                yield from ((value, at, f"{name}.{key}.{at}") for at, each in enumerate(value) if isinstance(each, str))
