"""What travels to a cluster: our package, the job file and own modules; a megabyte, and never an image."""

from __future__ import annotations

import ast
import platform
import shutil
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import yaml

import cvbatch
from cvbatch.config import PYTHON, Job, ModelConfig
from cvbatch.errors import ModelError
from cvbatch.locations import local_path
from cvbatch.sources.suffixes import IMAGE_SUFFIXES

JOB_FILE: Final = "job.yaml"
_START: Final = "start.py"
_NEEDS: Final = "needs.txt"
_PYTHON: Final = "python.txt"
"""The version that the job was submitted with."""
_PACKAGE: Final = Path(cvbatch.__file__).parent
_STAY_HERE: Final = frozenset({".pyc", *(f".{suffix}" for suffix in IMAGE_SUFFIXES)})
"""Endings of files that do not travel."""


def pack(job: Job, folder: Path, modules: Path) -> None:
    """Fill a folder with everything that a cluster needs for a job.

    Args:
        job: What to do.
        folder: Empty.
        modules: Where `python:` models are imported from.

    Raises:
        ModelError: If a module that the job names is not there, or cannot be read.
    """
    shutil.copytree(_PACKAGE, folder / _PACKAGE.name, ignore=_left_out)
    shutil.copyfile(_PACKAGE / "submit" / "begin.py", folder / _START)
    about = metadata.distribution("cvbatch")
    # so that the versions in the run record are those of the package that came along
    information = folder / f"cvbatch-{about.version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(about.read_text("METADATA") or "", encoding="utf-8")
    (folder / _NEEDS).write_text("\n".join(_needed(about)), encoding="utf-8")
    (folder / _PYTHON).write_text(platform.python_version(), encoding="utf-8")
    (folder / JOB_FILE).write_text(yaml.safe_dump(_content(job), allow_unicode=True), encoding="utf-8")
    for name in {_module_of(model) for model in job.models if model.model.startswith(PYTHON)}:
        if not name.isidentifier() or not any(_sources(modules, name)):
            raise ModelError(f"{PYTHON}{name}: expected {name}.py or {name}/ in {modules}, beside the job file")
        try:
            _copy_module(modules, name, folder)
        except OSError as error:  # links in a circle, too
            raise ModelError(f"{PYTHON}{name}: cannot be copied: {str(error)[:200]}") from None


def _content(job: Job) -> dict[str, Any]:
    """A job file that means the same in any folder."""
    content = job.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for section, key in (
        (content["source"], "uri"),
        (content["output"], "uri"),
        *((model, key) for model in content["models"] for key in ("checkpoint", "categories")),
    ):
        if isinstance(section.get(key), str):
            section[key] = local_path(section[key]) or section[key]
    if isinstance(uris := content["source"]["uri"], list):
        content["source"]["uri"] = [local_path(uri) or uri for uri in uris]
    return content


def _needed(about: metadata.Distribution) -> Iterator[str]:
    return (line for line in about.requires or [] if "extra ==" not in line)


def _module_of(model: ModelConfig) -> str:
    return model.model.removeprefix(PYTHON).partition(":")[0].partition(".")[0]


def _sources(modules: Path, name: str) -> Iterator[Path]:
    """A module, and a package; a folder without Python in it only happens to have the name of something installed."""
    module, package = modules / f"{name}.py", modules / name
    if module.is_file():
        yield module
    if package.is_dir() and any(package.rglob("*.py")):
        yield package


def _left_out(folder: str, names: Sequence[str]) -> set[str]:
    """Names in a folder that stay here: images, and what is hidden, such as `.env` and `.git`."""
    return {
        name
        for name in names
        if name.startswith(".") or name == "__pycache__" or Path(name).suffix.lower() in _STAY_HERE
    }


def _copy_module(modules: Path, name: str, folder: Path) -> None:
    """Copy a module or package, and what it imports from beside it."""
    for source in _sources(modules, name):
        target = folder / source.name
        if target.exists():
            return
        if source.is_dir():
            shutil.copytree(source, target, ignore=_left_out)
        else:
            shutil.copyfile(source, target)
        for file in [source] if source.is_file() else source.rglob("*.py"):
            for imported in _imports(file):
                _copy_module(modules, imported, folder)


def _imports(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise ModelError(f"{file} is not Python: {error}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
