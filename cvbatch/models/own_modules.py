"""The source of an own `python:` model: where it is imported from, and what it imports from beside it."""

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


def folder_of_module(module: str, beside: str | None) -> Path | None:
    """The folder that an own module is imported from; None for one that was installed.

    Args:
        module: Dotted name.
        beside: The job file's folder.

    Raises:
        ModelError: It has a name that something else is imported by.
    """
    top = module.partition(".")[0]
    if beside is not None and any(sources_of(Path(beside), top)):
        check_module_name(Path(beside), top, f"python:{module}")
        return Path(beside)
    origin = _module_origin(top)
    if origin is None or _is_installed(origin):
        return None
    return origin.parent.parent if origin.name.startswith("__init__.") else origin.parent


def check_module_name(folder: Path, top: str, wanted_by: str) -> None:
    """Refuse a module beside the job file whose name means something else to Python.

    Raises:
        ModelError: It is one of Python's own, or that of an installed package.
    """
    first = next(sources_of(folder, top))
    if top in sys.stdlib_module_names:
        raise ModelError(f"{wanted_by}: {first} has the name of Python's own module {top}: rename it")
    origin = _module_origin(top)
    if origin is not None and not origin.is_relative_to(folder.resolve()):
        where = f"an installed module, {origin}, which is imported first"
        raise ModelError(f"{wanted_by}: {first} has the name of {where}: rename it")


def reached_modules(folder: Path, module: str) -> list[Path]:
    """The source of a module, and of all that it imports from its own folder, one after the other.

    Raises:
        ModelError: One is no Python, or has a name that means something else.
    """
    waiting, found = [module], dict[Path, None]()
    while waiting:
        name = waiting.pop()
        for path, package in _files_of(folder, name):
            if path in found:
                continue
            found[path] = None
            if path.suffix != ".py":
                continue
            for imported in imports_of_file(path, package):
                top = imported.partition(".")[0]
                if top in sys.stdlib_module_names or top == _OURS or not any(sources_of(folder, top)):
                    continue
                if top != module.partition(".")[0]:
                    check_module_name(folder, top, f"{path} imports {top}")
                waiting.append(imported)
    return sorted(found)


def imports_of_file(file: Path, package: str = "") -> Iterator[str]:
    """Dotted names of what a source may import.

    Args:
        file: The source.
        package: That it belongs to, for relative imports.

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
    """What a call of `importlib.import_module` or `__import__` with a literal name imports."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    first = call.args[0] if call.args else None
    if function not in _IMPORTERS or not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return
    name = first.value.lstrip(".")
    level, parts = len(first.value) - len(name), package.split(".")
    base = ".".join(parts[: len(parts) + 1 - level]) if level else ""
    yield ".".join(filter(None, (base, name)))


def string_literals(file: Path) -> Iterator[str]:
    """Every literal text of a source of one line.

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
        here = folder.joinpath(*parts[:count])
        dotted = ".".join(parts[:count])
        if (init := here / "__init__.py").is_file():
            yield init, dotted
        elif not here.is_dir() or (here.with_name(f"{here.name}.py")).is_file():
            parent = ".".join(parts[: count - 1])
            yield from ((path, parent) for path in _module_paths(here))


def _module_paths(path: Path) -> Iterator[Path]:
    for suffix in (".py", *EXTENSION_SUFFIXES):
        if (file := path.with_name(path.name + suffix)).is_file():
            yield file


def sources_of(folder: Path, name: str) -> Iterator[Path]:
    """A module, and a package; a folder without Python in it only happens to have the name of something installed."""
    yield from _module_paths(folder / name)
    package = folder / name
    if (package / "__init__.py").is_file() or (
        package.is_dir() and _module_origin(name) is None and any(package.rglob("*.py"))
    ):
        yield package


def _module_origin(top: str) -> Path | None:
    """The file that a name is imported from as things are; None if there is none, or a mere folder."""
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # of a module that is half loaded
        return None
    if found is None or found.origin is None or not os.path.exists(found.origin):
        return None
    return Path(found.origin).resolve()


def _is_installed(origin: Path) -> bool:
    folders = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    known = any(origin.is_relative_to(Path(folder).resolve()) for folder in folders)
    return known or "site-packages" in origin.parts or "dist-packages" in origin.parts
