"""Source files of a `python:` model: the folder that it is imported from, and what it imports from there."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

from cvbatch.errors import ModelError

_OURS: Final = "cvbatch"
_IMPORTERS: Final = ("import_module", "__import__")
_LONGEST_NAME: Final = 255


def folder_of_module(module: str, job_folder: str | None) -> Path | None:
    """Find the folder that a module is imported from; None for an installed one.

    Args:
        module: Dotted name.
        job_folder: The job file's folder.

    Raises:
        ModelError: Another module has its name and is imported first.
    """
    top = module.partition(".")[0]
    if job_folder is not None and any(sources_of(Path(job_folder), top)):
        check_module_name(Path(job_folder), top, f"python:{module}")
        return Path(job_folder)
    origin = _module_origin(top)
    if origin is None or _is_installed(origin):
        return None
    return origin.parent.parent if origin.name.startswith("__init__.") else origin.parent


def check_module_name(folder: Path, top: str, wanted_by: str) -> None:
    """Refuse a module in the job file's folder if Python imports another module by its name.

    Raises:
        ModelError: It is the name of a module of Python itself, or of an installed package.
    """
    first = next(sources_of(folder, top))
    if top in sys.stdlib_module_names:
        raise ModelError(f"{wanted_by}: {first} has the name of Python's own module {top}: rename it")
    origin = _module_origin(top)
    if origin is not None and not origin.is_relative_to(folder.resolve()):
        where = f"an installed module, {origin}, which is imported first"
        raise ModelError(f"{wanted_by}: {first} has the name of {where}: rename it")


def reached_modules(folder: Path, module: str) -> list[Path]:
    """The sources of a module and of all modules that it imports, directly or not, from its own folder.

    Raises:
        ModelError: A source is not Python, or another module has its name.
    """
    waiting, sources = [module], dict[Path, None]()
    while waiting:
        name = waiting.pop()
        for path, package in _files_of(folder, name):
            if path in sources:
                continue
            sources[path] = None
            if path.suffix != ".py":
                continue
            for imported in imports_of_file(path, package):
                top = imported.partition(".")[0]
                if top in sys.stdlib_module_names or top == _OURS or not any(sources_of(folder, top)):
                    continue
                if top != module.partition(".")[0]:
                    check_module_name(folder, top, f"{path} imports {top}")
                waiting.append(imported)
    return sorted(sources)


def imports_of_file(file: Path, package: str = "") -> Iterator[str]:
    """Dotted names of all that a source file may import.

    Args:
        file: The source.
        package: Package of the file, for relative imports.

    Raises:
        ModelError: It is not Python.
    """
    for node in ast.walk(_parse_file(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) + 1 - node.level]) if node.level else ""
            start = ".".join(filter(None, (base, node.module)))
            if start:
                yield start
                yield from (f"{start}.{alias.name}" for alias in node.names if alias.name != "*")
        elif isinstance(node, ast.Call):
            yield from _imported_by_name(node, package)


def _imported_by_name(call: ast.Call, package: str) -> Iterator[str]:
    """The module that `importlib.import_module` or `__import__` with a literal name imports."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    first = call.args[0] if call.args else None
    if function not in _IMPORTERS or not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return
    name = first.value.lstrip(".")
    level, parts = len(first.value) - len(name), package.split(".")
    base = ".".join(parts[: len(parts) + 1 - level]) if level else ""
    yield ".".join(filter(None, (base, name)))


def string_literals(file: Path) -> Iterator[str]:
    """Every short string literal of a source file.

    Raises:
        ModelError: It is not Python.
    """
    for node in ast.walk(_parse_file(file)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) <= _LONGEST_NAME:
            yield node.value


def _parse_file(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        what = getattr(error, "msg", error)
        raise ModelError(f"{file} is not Python: {what}{f', line {line}' if line else ''}") from None


def _files_of(folder: Path, name: str) -> Iterator[tuple[Path, str]]:
    """The sources that importing a dotted name executes, each with its package."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        path = folder.joinpath(*parts[:count])
        dotted = ".".join(parts[:count])
        if (init := path / "__init__.py").is_file():
            yield init, dotted
        elif not path.is_dir() or (path.with_name(f"{path.name}.py")).is_file():
            parent = ".".join(parts[: count - 1])
            yield from ((file, parent) for file in _module_paths(path))


def _module_paths(path: Path) -> Iterator[Path]:
    for suffix in (".py", *EXTENSION_SUFFIXES):
        if (file := path.with_name(path.name + suffix)).is_file():
            yield file


def sources_of(folder: Path, name: str) -> Iterator[Path]:
    """The files of a module, and its package folder; a folder without Python may have that name by chance."""
    yield from _module_paths(folder / name)
    package = folder / name
    if (package / "__init__.py").is_file() or (
        package.is_dir() and _module_origin(name) is None and any(package.rglob("*.py"))
    ):
        yield package


def _module_origin(top: str) -> Path | None:
    """The file that a name is imported from at present; None if there is none, or only a namespace folder."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # a module that is only half loaded
        return None
    if spec is None or spec.origin is None or not os.path.exists(spec.origin):
        return None
    return Path(spec.origin).resolve()


def _is_installed(origin: Path) -> bool:
    folders = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    in_known_folder = any(origin.is_relative_to(Path(folder).resolve()) for folder in folders)
    return in_known_folder or "site-packages" in origin.parts or "dist-packages" in origin.parts
