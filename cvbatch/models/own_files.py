"""Files of a `python:` model: its source code, and the files that its options name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cvbatch.errors import ModelError
from cvbatch.models.own_modules import reached_modules, string_literals
from cvbatch.models.weights import file_sha256

_MOST_FILES: Final = 1_000
"""Files of a folder that an option names; a folder with more is data, and is ignored."""
_LONGEST_PATH: Final = 4_096
_READ_BY_MODELS: Final = frozenset(
    (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".onnx", ".h5", ".npz", ".npy", ".txt", ".json", ".yaml", ".yml")
)
"""Suffixes of files that the answers depend on if the source names them; others may be files that the model writes."""


def hash_model_files(
    module: str, folder: Path | None, options: Mapping[str, Any], job_folder: str | None
) -> dict[str, str]:
    """Hash all files of a `python:` model.

    Args:
        module: Dotted name.
        folder: Folder that it is imported from; None if it is installed.
        options: Options of its factory.
        job_folder: The job file's folder; paths in the options are relative to it.

    Returns:
        The sha256 of each file, by its relative path.

    Raises:
        ModelError: A source is not Python, its name belongs to another module, or a file cannot be read.
    """
    try:
        hashes = (
            {}
            if folder is None
            else {str(path.relative_to(folder)): file_sha256(path) for path in _hash_own_modules(folder, module)}
        )
        for text in named_files(options):
            hashes |= {name: file_sha256(path) for name, path in option_files(text, job_folder)}
    except OSError as error:
        raise ModelError(f"python:{module}: cannot read {error.filename}: {error.strerror}") from None
    return hashes


def _hash_own_modules(folder: Path, module: str) -> Iterator[Path]:
    """The sources of a module, and the files that their literals name, relative to the source or to `folder`."""
    for source in reached_modules(folder, module):
        yield source
        for text in string_literals(source) if source.suffix == ".py" else ():
            if Path(text).suffix.lower() in _READ_BY_MODELS and ".." not in Path(text).parts and "\0" not in text:
                paths = (Path(parent, text) for parent in (source.parent, folder))
                yield from (path for path in paths if path.is_relative_to(folder) and path.is_file())


def first_changed_file(old_hashes: Mapping[str, str], new_hashes: Mapping[str, str]) -> str | None:
    """The first file that has changed or is missing, or None; new files are ignored, as they may be a cache."""
    return next((name for name, digest in sorted(old_hashes.items()) if new_hashes.get(name) != digest), None)


def without_options(files: Mapping[str, str], options: Any) -> dict[str, str]:
    """The files of a model that its options do not name."""
    of_options = {f"{name}{suffix}" for text in named_files(options) for name, suffix in _held_files(text, files)}
    return {name: digest for name, digest in files.items() if name not in of_options}


def comparable_options(options: Any, files: Mapping[str, str]) -> Any:
    """Options with the hashes of their files in place of the paths, because one path can be written in several ways."""
    if isinstance(options, str):
        return {suffix: files[f"{name}{suffix}"] for name, suffix in _held_files(options, files)} or options
    if isinstance(options, Mapping):
        return {key: comparable_options(inner, files) for key, inner in options.items()}
    if isinstance(options, list | tuple):
        return [comparable_options(inner, files) for inner in options]
    return options


def _held_files(text: str, files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each file that a text names, as (file or folder that it names, remaining path below that)."""
    name = os.path.normpath(text) if text else text
    return ((name, file[len(name) :]) for file in files if file == name or file.startswith(f"{name}/"))


def named_files(value: Any) -> Iterator[str]:
    """Every string in the options of a factory, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from named_files(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from named_files(inner)


def option_files(text: str, job_folder: str | None) -> Iterator[tuple[str, Path]]:
    """The file that an option names, or the files of the folder that it names, each with its name; else empty."""
    path = option_path(text, job_folder)
    if path is None:
        return
    name = os.path.normpath(text)
    if path.is_file():
        yield name, path
        return
    files = list(_files_below(path))
    if len(files) <= _MOST_FILES:
        for file in files:
            yield f"{name}/{file.relative_to(path)}", file


def option_path(text: str, job_folder: str | None) -> Path | None:
    """The file or folder that an option names, relative to the job file; None if there is none."""
    if not text.strip("./~") or len(text) > _LONGEST_PATH or "\0" in text:
        return None
    path = Path(job_folder or os.curdir, os.path.expanduser(text))
    try:
        return path if path.is_file() or path.is_dir() else None
    except OSError:  # the name is too long
        return None


def with_absolute_paths(value: Any, job_folder: str | None) -> Any:
    """Make paths in the options of a factory absolute, if they exist relative to the job file."""
    if isinstance(value, str):
        written_as_path = "/" in value or Path(value).suffix
        path = option_path(value, job_folder) if written_as_path and job_folder is not None else None
        return value if path is None else os.path.abspath(path)
    if isinstance(value, Mapping):
        return {key: with_absolute_paths(inner, job_folder) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_absolute_paths(inner, job_folder) for inner in value)
    return value


def _files_below(folder: Path) -> Iterator[Path]:
    """Visible files of a folder in order, without outputs of runs; at most one more than `_MOST_FILES`."""
    count = 0
    for current, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name != "__pycache__" and not Path(current, name, "_cvbatch").exists()
        )
        for name in sorted(files):
            if not name.startswith(".") and (path := Path(current, name)).is_file():
                yield path
                count += 1
                if count > _MOST_FILES:
                    return
