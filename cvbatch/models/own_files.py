"""The files that an own `python:` model is made of: its source, and what the options of its factory name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cvbatch.errors import ModelError
from cvbatch.models.own_modules import reached_modules, string_literals
from cvbatch.models.weights import file_sha256

_MOST_FILES: Final = 1_000
"""Of a folder that an option names; one with more is data, and not looked at."""
_LONGEST_PATH: Final = 4_096
_READ_BY_MODELS: Final = frozenset(
    (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".onnx", ".h5", ".npz", ".npy", ".txt", ".json", ".yaml", ".yml")
)
"""Ends of files that a model's text names and that its answers depend on; others may be what it writes."""


def hash_model_files(
    module: str, folder: Path | None, options: Mapping[str, Any], beside: str | None
) -> dict[str, str]:
    """What an own model is made of.

    Args:
        module: Dotted name.
        folder: That it is imported from; None if it was installed.
        options: Of its factory.
        beside: The job file's folder, in which files are looked for that the options name.

    Returns:
        The sha256 of each file, by its path from its folder.

    Raises:
        ModelError: A source is no Python, a name means something else, or a file cannot be read.
    """
    try:
        found = (
            {}
            if folder is None
            else {str(path.relative_to(folder)): file_sha256(path) for path in _hash_own_modules(folder, module)}
        )
        for given in named_files(options):
            found |= {name: file_sha256(path) for name, path in option_files(given, beside)}
    except OSError as error:
        raise ModelError(f"python:{module}: cannot read {error.filename}: {error.strerror}") from None
    return found


def _hash_own_modules(folder: Path, module: str) -> Iterator[Path]:
    """The source of a module, and the files of weights and names that its text names, beside it or in the folder."""
    for source in reached_modules(folder, module):
        yield source
        for text in string_literals(source) if source.suffix == ".py" else ():
            if Path(text).suffix.lower() in _READ_BY_MODELS and ".." not in Path(text).parts and "\0" not in text:
                places = (Path(each, text) for each in (source.parent, folder))
                yield from (path for path in places if path.is_relative_to(folder) and path.is_file())


def first_changed_file(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """The first file that is another one than before, or gone; what is new beside them may be a cache."""
    return next((name for name, digest in sorted(before.items()) if now.get(name) != digest), None)


def without_options(files: Mapping[str, str], options: Any) -> dict[str, str]:
    """The files of a model that its options do not name."""
    of_options = {f"{name}{rest}" for text in named_files(options) for name, rest in _held_files(text, files)}
    return {name: digest for name, digest in files.items() if name not in of_options}


def comparable_options(options: Any, files: Mapping[str, str]) -> Any:
    """Options with what their files hold in the place of their paths, which may be written in several ways."""
    if isinstance(options, str):
        return {rest: files[f"{name}{rest}"] for name, rest in _held_files(options, files)} or options
    if isinstance(options, Mapping):
        return {key: comparable_options(inner, files) for key, inner in options.items()}
    if isinstance(options, list | tuple):
        return [comparable_options(inner, files) for inner in options]
    return options


def _held_files(text: str, files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each file that a text names, as the name of what it names and the rest of its path."""
    name = os.path.normpath(text) if text else text
    return ((name, file[len(name) :]) for file in files if file == name or file.startswith(f"{name}/"))


def named_files(value: Any) -> Iterator[str]:
    """Every text in the options of a factory, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from named_files(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from named_files(inner)


def option_files(given: str, beside: str | None) -> Iterator[tuple[str, Path]]:
    """The file that an option names, or those of a folder, each with its name; none if it names nothing."""
    path = option_path(given, beside)
    if path is None:
        return
    name = os.path.normpath(given)
    if path.is_file():
        yield name, path
        return
    files = list(_files_below(path))
    if len(files) <= _MOST_FILES:
        for file in files:
            yield f"{name}/{file.relative_to(path)}", file


def option_path(given: str, beside: str | None) -> Path | None:
    """The file or folder that an option names, relative to the job file; None if there is none."""
    if not given.strip("./~") or len(given) > _LONGEST_PATH or "\0" in given:
        return None
    path = Path(beside or os.curdir, os.path.expanduser(given))
    try:
        return path if path.is_file() or path.is_dir() else None
    except OSError:  # too long a name
        return None


def with_absolute_paths(value: Any, beside: str | None) -> Any:
    """The options of a factory, with absolute paths for files that are written as paths and lie beside the job file."""
    if isinstance(value, str):
        written_as_path = "/" in value or Path(value).suffix
        path = option_path(value, beside) if written_as_path and beside is not None else None
        return value if path is None else os.path.abspath(path)
    if isinstance(value, Mapping):
        return {key: with_absolute_paths(inner, beside) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_absolute_paths(inner, beside) for inner in value)
    return value


def _files_below(folder: Path) -> Iterator[Path]:
    """Files of a folder that are not hidden, in order; one more than are looked at, at most. No outputs of runs."""
    count = 0
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name != "__pycache__" and not Path(here, name, "_cvbatch").exists()
        )
        for name in sorted(files):
            if not name.startswith(".") and (path := Path(here, name)).is_file():
                yield path
                count += 1
                if count > _MOST_FILES:
                    return
